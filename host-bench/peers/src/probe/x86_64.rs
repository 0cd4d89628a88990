//! The loops of x86-64: registers are named outright, so that the compiler has nothing to fold, hoist or spill.

use std::arch::asm;

use super::Peak;

/// A loop whose body is repeated for 12 accumulators (`\i` is the number), enough to hide the latency of any of these
/// instructions. Each repetition does `$ops` operations. Registers 12 to 15 are factors or scratch; all begin as zero,
/// and zeros take as long to multiply as other numbers.
macro_rules! peak_loop {
    ($name:ident, $ops:literal, $($line:literal),+) => {
        fn $name(n: u64) -> u64 {
            let n = n.max(1);
            // SAFETY: `peaks` lists the loop only where the CPU has its instructions; it touches no memory, and every
            // register that it writes is named.
            unsafe {
                asm!(
                    "vzeroall",
                    "2:",
                    ".irp i,0,1,2,3,4,5,6,7,8,9,10,11",
                    $($line,)+
                    ".endr",
                    "dec {n}",
                    "jnz 2b",
                    "vzeroupper",
                    n = inout(reg) n => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                    out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    options(nomem, nostack),
                );
            }
            n * 12 * $ops
        }
    };
}

peak_loop!(f32_fma, 16, "vfmadd231ps ymm\\i, ymm14, ymm15");
peak_loop!(f32_avx512, 32, "vfmadd231ps zmm\\i, zmm14, zmm15");
// What AVX2 has for bytes: products in pairs to 16 bits, pairs to 32 bits, the sum.
peak_loop!(
    int8_avx2,
    64,
    "vpmaddubsw ymm12, ymm14, ymm15",
    "vpmaddwd ymm12, ymm12, ymm13",
    "vpaddd ymm\\i, ymm\\i, ymm12"
);
peak_loop!(int8_avx_vnni, 64, "{{vex}} vpdpbusd ymm\\i, ymm14, ymm15");
peak_loop!(int8_avx512_vnni, 128, "vpdpbusd zmm\\i, zmm14, zmm15");
peak_loop!(bf16_avx512, 64, "vdpbf16ps zmm\\i, zmm14, zmm15");

/// The loops that this CPU can run.
pub fn peaks() -> Vec<Peak> {
    let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let has_avx512 = is_x86_feature_detected!("avx512f");
    let has_amx = amx::is_permitted();
    let peak = |ty, instruction, is_avx2, run| Peak { ty, instruction, is_avx2, run };
    let all: [(bool, Peak); 8] = [
        (has_avx2, peak("f32", "vfmadd231ps ymm", true, f32_fma)),
        (has_avx512, peak("f32", "vfmadd231ps zmm", false, f32_avx512)),
        (has_avx2, peak("int8", "vpmaddubsw ymm", true, int8_avx2)),
        (is_x86_feature_detected!("avxvnni"), peak("int8", "vpdpbusd ymm", false, int8_avx_vnni)),
        (
            has_avx512 && is_x86_feature_detected!("avx512vnni"),
            peak("int8", "vpdpbusd zmm", false, int8_avx512_vnni),
        ),
        (has_amx, peak("int8", "tdpbssd", false, amx::int8)),
        (
            has_avx512 && is_x86_feature_detected!("avx512bf16"),
            peak("bf16", "vdpbf16ps zmm", false, bf16_avx512),
        ),
        (has_amx, peak("bf16", "tdpbf16ps", false, amx::bf16)),
    ];
    all.into_iter().filter(|(has, _)| *has).map(|(_, peak)| peak).collect()
}

/// Reads `words` with the widest loads there are and adds them up (up to some rounds at seams); `None` without AVX2.
pub fn sum(words: &[u64]) -> Option<u64> {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has AVX-512F.
        Some(unsafe { sum_avx512(words) })
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2.
        Some(unsafe { sum_avx2(words) })
    } else {
        None
    }
}

#[target_feature(enable = "avx2")]
fn sum_avx2(words: &[u64]) -> u64 {
    sum_lanes(words)
}

#[target_feature(enable = "avx512f")]
fn sum_avx512(words: &[u64]) -> u64 {
    sum_lanes(words)
}

/// Eight cache lines in each round, which the compiler turns into as many wide additions. Four streams by turns: one
/// core read 17.0 GB/s so, 15.8 GB/s in a single stream (Xeon, Emerald Rapids, two virtual CPUs).
#[inline(always)]
fn sum_lanes(words: &[u64]) -> u64 {
    let (rounds, rest) = words.as_chunks::<64>();
    let (first, second) = rounds.split_at(rounds.len() / 2);
    let (streams, last) = (first.split_at(first.len() / 2), second.split_at(second.len() / 2));
    let mut lanes = [0u64; 64];
    let mut add = |round: &[u64; 64]| {
        for (lane, &word) in lanes.iter_mut().zip(round) {
            *lane = lane.wrapping_add(word);
        }
    };
    // The halves differ by a round at most, and so do the quarters: what `zip` cuts off is not worth a loop of its own.
    for (((a, b), c), d) in streams.0.iter().zip(streams.1).zip(last.0).zip(last.1) {
        [a, b, c, d].into_iter().for_each(&mut add);
    }
    lanes.iter().chain(rest).fold(0, |sum, &word| sum.wrapping_add(word))
}

/// Tiles: a product of 16 rows of 64 bytes by 16 columns of 64 bytes at a time.
#[cfg(target_os = "linux")]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    /// Whether the CPU has tiles for bytes and bf16, and the system lets this process use them.
    pub fn is_permitted() -> bool {
        const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        // Leaf 7 is there wherever AVX2 is.
        let has_tiles =
            is_x86_feature_detected!("avx2") && __cpuid_count(7, 0).edx & BF16_TILE_INT8 == BF16_TILE_INT8;
        // SAFETY: the call asks for a permission and touches no memory of this process.
        has_tiles
            && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0
    }

    /// Eight tiles of 16 rows of 64 bytes: palette 1, then 16 widths in bytes from byte 16, 16 heights from byte 48.
    fn config() -> [u8; 64] {
        let mut config = [0; 64];
        config[0] = 1;
        for tile in 0..8 {
            config[16 + 2 * tile] = 64;
            config[48 + tile] = 16;
        }
        config
    }

    macro_rules! tile_loop {
        ($name:ident, $ops:literal, $instruction:literal) => {
            pub fn $name(n: u64) -> u64 {
                let (n, config) = (n.max(1), config());
                // SAFETY: `is_permitted` holds where this is listed; the configuration is one that the instruction set
                // defines, the tiles are released at the end.
                unsafe {
                    asm!(
                        "ldtilecfg [{config}]",
                        ".irp i,0,1,2,3,4,5,6,7",
                        "tilezero tmm\\i",
                        ".endr",
                        "2:",
                        ".irp i,0,1,2,3,4,5",
                        concat!($instruction, " tmm\\i, tmm6, tmm7"),
                        ".endr",
                        "dec {n}",
                        "jnz 2b",
                        "tilerelease",
                        config = in(reg) config.as_ptr(),
                        n = inout(reg) n => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(readonly, nostack),
                    );
                }
                n * 6 * $ops
            }
        };
    }

    tile_loop!(int8, 32_768, "tdpbssd");
    tile_loop!(bf16, 16_384, "tdpbf16ps");
}

/// Only Linux is known to hand out tiles in this way.
#[cfg(not(target_os = "linux"))]
mod amx {
    pub fn is_permitted() -> bool {
        false
    }
    pub fn int8(_: u64) -> u64 {
        0
    }
    pub fn bf16(_: u64) -> u64 {
        0
    }
}
