//! The deepest stack a program can reach: its call graph and the longest path through it, in bytes of frames.
//!
//! Calls through a pointer nest [`NESTED`] deep at most in the engine: `Workers::run`, the job given to it, the part of the
//! work in that job, a routine of an `OpTable`. No function stands in such a nest twice, as nothing recurses, so they are
//! bounded by the deepest functions whose address is stored anywhere, as many as that, one above the other. A cycle has no
//! bound; it is named and its closing call left out.

use super::program::Function;
use std::collections::BTreeSet;

/// How many calls through pointers stand above one another at most.
pub const NESTED: usize = 4;

/// In the names of functions that the compiler puts in front of a closure behind a `dyn Fn`, in either way of mangling.
const SHIMS: [&str; 2] = ["{shim:vtable", "{{vtable.shim}}"];

/// In the names of what the linker puts in the place of an instruction that trips erratum 843419 of the Cortex-A53: the
/// instruction, and a branch back to the one behind it.
const PATCH: &str = "__CortexA53843419_";

/// What is known about the stack.
#[derive(Debug, Default, PartialEq)]
pub struct Depth {
    /// Bytes along the deepest path of direct calls.
    pub direct: u64,
    /// That path: names and frames from the outside in.
    pub path: Vec<(String, u64)>,
    /// Bytes with [`NESTED`] calls through pointers.
    pub bound: u64,
    /// Functions that call through a pointer.
    pub indirect: Vec<String>,
    /// Calls that close a cycle: caller and callee.
    pub cycles: Vec<(String, String)>,
}

/// Finds the deepest stack of the program made of `functions`, sorted by address.
pub fn depth(functions: &[Function]) -> Depth {
    let nodes: Vec<Node> = functions.iter().map(|function| Node::new(function, functions)).collect();
    let search = |through_pointer, cycles| {
        let mut search =
            Search { nodes: &nodes, through_pointer, depths: vec![State::New; nodes.len()], cycles };
        let depths: Vec<u64> = (0..nodes.len()).map(|i| search.depth(i)).collect();
        (depths, search.cycles)
    };
    let (direct, cycles) = search(0, BTreeSet::new());
    let is_pointed_at = |i: &usize| functions[*i].is_pointed_at;
    let mut pointed_at: Vec<usize> = (0..nodes.len()).filter(is_pointed_at).collect();
    pointed_at.sort_by_key(|&i| std::cmp::Reverse(direct[i]));
    // A closure behind a `dyn Fn` is reached through a shim of the compiler's, which is counted with it: it calls the
    // closure, or has taken it in.
    let is_in_shim = |i: usize| {
        (0..nodes.len()).any(|shim| {
            let name = &functions[shim].name;
            let is_shim = SHIMS.iter().any(|mark| name.contains(mark)) && is_pointed_at(&shim);
            let has_closure = nodes[shim].callees.contains(&i) || name.contains(&functions[i].name);
            is_shim && shim != i && has_closure && direct[i] <= direct[shim]
        })
    };
    let nest = pointed_at.iter().filter(|&&i| !is_in_shim(i)).take(NESTED).map(|&i| direct[i]);
    let (depths, cycles) = search(nest.sum(), cycles);
    // What a pointer reaches is below something else.
    let outermost = (0..nodes.len()).filter(|i| !is_pointed_at(i)).map(|i| depths[i]);
    let bound = outermost.max().unwrap_or(0);
    let name = |i: usize| functions[i].name.clone();
    Depth {
        direct: direct.iter().copied().max().unwrap_or(0),
        path: path(&nodes, &direct).into_iter().map(|i| (name(i), nodes[i].frame)).collect(),
        bound,
        indirect: (0..nodes.len()).filter(|&i| nodes[i].calls_pointer).map(name).collect(),
        cycles: cycles.into_iter().map(|(from, to)| (name(from), name(to))).collect(),
    }
}

/// The deepest stack of every function, where it is known what calls through pointers reach.
#[derive(Debug)]
pub struct Depths {
    /// Bytes below and with each function.
    pub bytes: Vec<u64>,
    /// Calls that close a cycle: caller and callee.
    pub cycles: Vec<(usize, usize)>,
    callees: Vec<Vec<usize>>,
    frames: Vec<u64>,
}

impl Depths {
    /// Finds them; `pointees` says which functions a function may call through pointers.
    pub fn new(functions: &[Function], pointees: impl Fn(&Function) -> Vec<usize>) -> Self {
        let node = |function| {
            let mut node = Node::new(function, functions);
            if node.calls_pointer {
                node.callees.extend(pointees(function));
            }
            node
        };
        let nodes: Vec<Node> = functions.iter().map(node).collect();
        let mut search = Search {
            nodes: &nodes,
            through_pointer: 0,
            depths: vec![State::New; nodes.len()],
            cycles: BTreeSet::new(),
        };
        let bytes = (0..nodes.len()).map(|i| search.depth(i)).collect();
        let cycles = search.cycles.into_iter().collect();
        let frames = nodes.iter().map(|node| node.frame).collect();
        Self { bytes, cycles, callees: nodes.into_iter().map(|node| node.callees).collect(), frames }
    }

    /// The functions along the deepest path from function `i`, with their frames.
    pub fn path(&self, i: usize) -> Vec<(usize, u64)> {
        let (mut path, mut next) = (Vec::new(), Some(i));
        while let Some(i) = next {
            path.push((i, self.frames[i]));
            let below = self.bytes[i] - self.frames[i];
            let goes_on = |callee: &&usize| {
                below > 0 && self.bytes[**callee] == below && !path.iter().any(|(seen, _)| seen == *callee)
            };
            next = self.callees[i].iter().find(goes_on).copied();
        }
        path
    }
}

/// A function as the graph sees it.
struct Node {
    frame: u64,
    callees: Vec<usize>,
    calls_pointer: bool,
}

impl Node {
    fn new(function: &Function, functions: &[Function]) -> Node {
        let mut callees = callees(function, functions);
        callees.sort_unstable();
        callees.dedup();
        Node { frame: function.frame, callees, calls_pointer: function.code.calls_pointer }
    }
}

/// The functions that `function` calls directly or goes on in.
pub fn callees(function: &Function, functions: &[Function]) -> Vec<usize> {
    if function.name.starts_with(PATCH) {
        return Vec::new();
    }
    function.code.targets.iter().filter_map(|&target| containing(functions, target)).collect()
}

/// The function that `address` lies in.
fn containing(functions: &[Function], address: u64) -> Option<usize> {
    let i = functions.partition_point(|function| function.address <= address).checked_sub(1)?;
    (address < functions[i].address + functions[i].size).then_some(i)
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done(u64),
}

/// Longest paths by depth-first search, each function's kept.
struct Search<'a> {
    nodes: &'a [Node],
    /// Bytes that a call through a pointer takes.
    through_pointer: u64,
    depths: Vec<State>,
    cycles: BTreeSet<(usize, usize)>,
}

impl Search<'_> {
    fn depth(&mut self, i: usize) -> u64 {
        if let State::Done(depth) = self.depths[i] {
            return depth;
        }
        self.depths[i] = State::Open;
        let node = &self.nodes[i];
        let mut below = if node.calls_pointer { self.through_pointer } else { 0 };
        for &callee in &node.callees {
            if self.depths[callee] == State::Open {
                self.cycles.insert((i, callee));
            } else {
                below = below.max(self.depth(callee));
            }
        }
        self.depths[i] = State::Done(node.frame + below);
        node.frame + below
    }
}

/// The functions along the deepest path.
fn path(nodes: &[Node], depths: &[u64]) -> Vec<usize> {
    let mut path = Vec::new();
    let mut next = (0..nodes.len()).max_by_key(|&i| depths[i]);
    while let Some(i) = next {
        path.push(i);
        let below = depths[i] - nodes[i].frame;
        let goes_on = |callee: &usize| below > 0 && depths[*callee] == below && !path.contains(callee);
        next = nodes[i].callees.iter().copied().find(goes_on);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions of sixteen bytes each, at 0, 16, 32, ...; `calls` are pairs of caller and callee.
    fn program(frames: &[u64], calls: &[(usize, usize)]) -> Vec<Function> {
        let function = |(i, &frame): (usize, &u64)| Function {
            name: format!("f{i}"),
            address: 16 * i as u64,
            size: 16,
            frame,
            ..Function::default()
        };
        let mut functions: Vec<Function> = frames.iter().enumerate().map(function).collect();
        for &(from, to) in calls {
            functions[from].code.targets.push(16 * to as u64);
        }
        functions
    }

    #[test]
    fn the_deepest_path_is_found() {
        let depth = depth(&program(&[16, 512, 32, 128], &[(0, 1), (0, 2), (2, 3), (1, 3)]));
        assert_eq!((depth.direct, depth.bound), (656, 656));
        let names: Vec<&str> = depth.path.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["f0", "f1", "f3"]);
        assert!(depth.cycles.is_empty() && depth.indirect.is_empty());
    }

    #[test]
    fn recursion_is_named() {
        let depth = depth(&program(&[16, 32], &[(0, 1), (1, 1), (1, 0)]));
        assert_eq!(depth.cycles, [("f1".into(), "f0".into()), ("f1".into(), "f1".into())]);
        assert_eq!(depth.direct, 48);
    }

    #[test]
    fn a_patched_instruction_is_no_recursion() {
        let mut functions = program(&[16, 0], &[(0, 1), (1, 0)]);
        assert_eq!(depth(&functions).cycles.len(), 1);
        functions[1].name = "__CortexA53843419_1000".into();
        assert_eq!((depth(&functions).direct, depth(&functions).cycles), (16, vec![]));
    }

    #[test]
    fn pointers_reach_what_is_pointed_at() {
        let mut functions = program(&[16, 100, 1000], &[]);
        functions[0].code.calls_pointer = true;
        functions[1].code.calls_pointer = true;
        functions[1].is_pointed_at = true;
        let depth = depth(&functions);
        assert_eq!(depth.indirect, ["f0", "f1"]);
        // f2 stands alone; without it, f0 and what a pointer reaches, each once.
        assert_eq!((depth.direct, depth.bound), (1000, 1000));
        functions[2].frame = 0;
        assert_eq!(super::depth(&functions).bound, 116);
        functions[2] = Function { frame: 30, is_pointed_at: true, ..functions[1].clone() };
        functions[2].address = 0x1000;
        assert_eq!(super::depth(&functions).bound, 146);
    }
}
