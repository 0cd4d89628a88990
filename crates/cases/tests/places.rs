//! A model computes the same wherever its tensors lie: at every alignment that a file may say, the file at any address.

#[path = "support/file.rs"]
#[allow(dead_code, reason = "a part of it")]
mod file;

use std::mem::MaybeUninit;

use corelm::arena::Arena;
use corelm::config::Config;
use corelm::error::ModelError;
use corelm::gguf::Image;
use corelm::kv_cache::KvType;
use corelm::ops::{Features, GgmlType, Matrix, Ops, Single};
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::session::Session;
use corelm::weights::Weights;
use corelm_cases::synth::SynthConfig;
use file::{File, Raw};

/// The bits of the logits behind a short prompt.
fn logits(file: &[u8], ops: Ops, is_packed: bool) -> Vec<u32> {
    let image = Image::parse(file).unwrap();
    let config = Config::from_image(&image).unwrap();
    let wanted = SessionConfig { n_ctx: 8, n_batch: 3, kv_type: KvType::F16, n_workers: 1 };
    let plan = MemoryPlan::new(&image, &config, &wanted).unwrap();
    let mut region = vec![MaybeUninit::uninit(); plan.bytes() + plan.packed_len()];
    let mut arena = Arena::new(&mut region);
    let mut weights = Weights::resolve(&image, &config, &mut arena).unwrap();
    if is_packed {
        weights = weights.pack(ops, &mut arena).unwrap();
    }
    let mut session = Session::new(ops, &Single, &config, weights, &plan, &mut arena).unwrap();
    session.prefill(&[84, 256, 300, 12]).unwrap().iter().map(|x| x.to_bits()).collect()
}

/// The file as `corelm pack` makes it: the matrices in panels, the embedding apart where it is not the output too.
fn packed(file: &File, ops: Ops) -> File {
    let mut file = file.clone();
    let has_output = file.tensor("output.weight").is_some();
    for tensor in &mut file.tensors {
        let ty = GgmlType::from_id(tensor.ty).unwrap();
        let [cols, rows] = tensor.dims[..] else { continue };
        let is_looked_up = has_output && tensor.name == b"token_embd.weight";
        let Some(in_panels) = ty.packed().filter(|_| !is_looked_up) else { continue };
        let plain = Matrix::new(ty, &tensor.data, rows as usize, cols as usize).unwrap();
        let mut data = vec![0; tensor.data.len()];
        ops.pack(&mut data, plain).unwrap();
        (tensor.ty, tensor.data) = (in_panels.id(), data);
    }
    file
}

/// Where the tensors lie in a file.
fn places(file: &[u8]) -> Vec<usize> {
    let image = Image::parse(file).unwrap();
    image.tensors().map(|tensor| tensor.bytes.as_ptr().addr() - file.as_ptr().addr()).collect()
}

#[test]
fn tensors_compute_alike_at_every_alignment() {
    for config in SynthConfig::KINDS {
        let file = File::synth(&config);
        let plain = file.bytes();
        for ops in Ops::available(Features::detect_host()) {
            let want = logits(&plain, ops, false);
            let files = [(&file, 8u32), (&file, 16), (&file, 64), (&file, 4096), (&file, 65_536)];
            let packed = packed(&file, ops);
            for (file, alignment) in files.into_iter().chain([(&packed, 8), (&packed, 32)]) {
                let said = file.with("general.alignment", Some(Raw::u32(alignment)));
                let bytes = said.bytes_at(alignment as usize, 1);
                let n_odd = places(&bytes).iter().filter(|at| *at % (2 * alignment as usize) != 0).count();
                assert!(n_odd > 2, "{alignment}: {n_odd} tensors at no larger multiple");
                for offset in [0, 1, 2, 3, 7, 8, 33] {
                    let moved = [&vec![0xa5; offset][..], &bytes].concat();
                    for is_packed in [false, true] {
                        let have = logits(&moved[offset..], ops, is_packed);
                        let about = format!("{:?} {:?} {ops:?}", config.arch, config.ty);
                        assert!(have == want, "{about}: alignment {alignment}, {offset} bytes further");
                    }
                }
            }
        }
    }
}

/// Data at multiples of 8 in a file that says nothing, or 16, is refused, and the offset told.
#[test]
fn tensors_beside_their_alignment_are_refused() {
    let file = File::synth(&SynthConfig::KINDS[0]);
    let sixteen = file.with("general.alignment", Some(Raw::u32(16)));
    for (file, alignment) in [(&file, 32), (&sixteen, 16)] {
        let bytes = file.bytes_at(8, 1);
        // The second is the first that begins behind another: its offset is the length of that, and 8.
        let offset = file.tensors[0].data.len() as u64 + 8;
        assert!(!offset.is_multiple_of(alignment));
        let error = Image::parse(&bytes).map(|_| ()).unwrap_err();
        assert_eq!(error, ModelError::Misaligned { tensor: 1, offset });
    }
}
