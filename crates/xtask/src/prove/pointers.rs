//! What calls through pointers reach: a table by names, as the types of pointers are gone from an object.
//!
//! A caller that no row is for is an error of the gate, so that the table cannot fall behind the code. What belongs to the
//! embedder (its `Workers`, its receivers of text, its sinks) has a stack of its own to answer for and is not counted.

use crate::binary::program::Function;

/// What a pointer may point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A routine of an `OpTable`.
    Routine,
    /// Such a routine on rows of floats: no product with a matrix.
    Lane,
    /// Such a routine that adds no rows up.
    Map,
    /// Such a routine as a product with quantized weights is made with: a part of a `Kernel` or of `Tiles`.
    Kernel,
    /// `Workers::count` of `Single`.
    Count,
    /// `Workers::run`, or `count`, of `Single`.
    Workers,
    /// The job that `Workers::run` is given.
    Job,
    /// The part of the work in such a job.
    Part,
    /// A receiver of the parts of a prompt.
    Emit,
    /// A printer of a value, or the receiver of what is printed.
    Format,
}

impl Kind {
    /// Whether a function whose address is stored somewhere is of this kind.
    fn has(self, name: &str) -> bool {
        let is = |part: &str| name.contains(part);
        match self {
            Self::Routine => is("corelm_ops::arch::") || is("corelm_ops::scalar::"),
            Self::Lane => {
                Self::Routine.has(name)
                    && !["::TABLE::gemm", "::cache::gemm"].iter().any(|end| name.ends_with(end))
            }
            Self::Map => Self::Lane.has(name) && !is("::accumulate_") && !is("::cache::accumulate"),
            Self::Kernel => Self::Routine.has(name) && !NO_KERNELS.iter().any(|end| name.ends_with(end)),
            Self::Count => is("<corelm_ops::workers::Single as corelm_ops::workers::Workers>::count"),
            Self::Workers => is("<corelm_ops::workers::Single as corelm_ops::workers::Workers>::"),
            Self::Job => is("for_each_tile") && is("{closure#") && !is(SHIM),
            Self::Part => {
                is("{closure#") && (is("corelm::forward::") || is("corelm::session::")) && !is(SHIM)
            }
            Self::Emit => is("corelm::chat::") && is("{closure#"),
            Self::Format => false,
        }
    }
}

/// In the names of what stands in the table of a `dyn Fn` to call it by value, which nothing does with a borrowed one.
const SHIM: &str = "::call_once::{shim:vtable";

/// How the names of routines end that no product with quantized weights is made with.
const NO_KERNELS: [&str; 12] = [
    "::TABLE::gemm",
    "::TABLE::dot",
    "::cache::gemm",
    "::accumulate_f32",
    "::accumulate_f16",
    "::accumulate_bf16",
    "scalar::accumulate_q8_0",
    "neon::cache::accumulate",
    "neon::wide::accumulate_q8_0",
    "avx2::accumulate_q8_0",
    "avx512::accumulate_q8_0",
    "::rope_neox",
];

/// Callers, by the beginnings of their names behind any `<` or `&`, and what they call through pointers.
const CALLERS: [(&str, &[Kind]); 29] = [
    ("corelm_ops::workers::Single", &[Kind::Job]),
    ("corelm_ops::workers::for_each_tile", &[Kind::Workers, Kind::Part]),
    ("corelm_ops::panel::", &[Kind::Kernel]),
    ("corelm_ops::table::gemm_", &[Kind::Kernel]),
    // What of attention is no score of keys: functions that are not inlined, as are those of a pass below.
    ("corelm_ops::attend::Attention>::add_values", &[Kind::Lane]),
    ("corelm_ops::attend::Attention>::finish", &[Kind::Lane]),
    ("corelm_ops::attend::Attention>::fold", &[Kind::Lane]),
    ("corelm_ops::attend::Attention>::gather", &[Kind::Lane]),
    ("corelm_ops::attend::Attention>::round_weights", &[Kind::Map]),
    ("corelm_ops::attend::Attention>::round", &[Kind::Lane]),
    ("corelm_ops::attend::Attention>::take", &[Kind::Lane]),
    ("corelm_ops::attend::Attention>::weigh_block", &[Kind::Lane]),
    ("corelm_ops::", &[Kind::Routine]),
    // Stages of a pass that are no products, kept apart from those that are.
    ("corelm::forward::Forward>::activate", &[Kind::Routine]),
    ("corelm::forward::Forward>::add", &[Kind::Routine]),
    ("corelm::forward::Forward>::attn_round", &[Kind::Routine]),
    ("corelm::forward::Forward>::embed", &[Kind::Routine]),
    ("corelm::forward::Forward>::norm", &[Kind::Routine]),
    ("corelm::forward::Forward>::output_norm", &[Kind::Routine]),
    ("corelm::forward::Forward>::rope", &[Kind::Routine]),
    ("corelm::forward::", &[Kind::Routine, Kind::Workers, Kind::Part]),
    ("corelm::session::Session>::new", &[Kind::Count]),
    ("corelm::session::", &[Kind::Routine, Kind::Workers, Kind::Part]),
    ("corelm::kv_cache::", &[Kind::Routine]),
    ("corelm::chat::ChatTemplate", &[Kind::Emit]),
    // The receiver of text, and what of a session is inlined here.
    ("corelm::generate::Generator", &[Kind::Routine]),
    ("prove_exports::generic", &[Kind::Workers, Kind::Part]),
    ("core::fmt::", &[Kind::Format]),
    ("str as core::fmt::", &[Kind::Format]),
];

/// Which functions `caller` may call through pointers; `None` when the table does not know it.
pub fn reached(caller: &Function, functions: &[Function]) -> Option<Vec<usize>> {
    let kinds = kinds(&caller.name)?;
    let is_reached =
        |function: &Function| function.is_pointed_at && kinds.iter().any(|kind| kind.has(&function.name));
    Some((0..functions.len()).filter(|&i| is_reached(&functions[i])).collect())
}

fn kinds(name: &str) -> Option<&'static [Kind]> {
    if is_format(name) {
        return Some(&[Kind::Format]);
    }
    let name = name.trim_start_matches(['<', '&']);
    CALLERS.iter().find(|(start, _)| name.starts_with(start)).map(|(_, kinds)| *kinds)
}

/// Whether a function prints a value for people: these nest as the printed types do.
pub fn is_format(name: &str) -> bool {
    name.contains("core::fmt::")
}
