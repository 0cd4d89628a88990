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
            Self::Workers => is("<corelm_ops::workers::Single as corelm_ops::workers::Workers>::"),
            Self::Job => is("for_each_tile") && is("{closure#"),
            Self::Part => is("{closure#") && (is("corelm::forward::") || is("corelm::session::")),
            Self::Emit => is("corelm::chat::") && is("{closure#"),
            Self::Format => false,
        }
    }
}

/// Callers, by the beginnings of their names behind any `<` or `&`, and what they call through pointers.
const CALLERS: [(&str, &[Kind]); 11] = [
    ("corelm_ops::workers::Single", &[Kind::Job]),
    ("corelm_ops::workers::for_each_tile", &[Kind::Workers, Kind::Part]),
    ("corelm_ops::", &[Kind::Routine]),
    ("corelm::forward::", &[Kind::Routine, Kind::Workers, Kind::Part]),
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
