//! The cases of corelm under criterion: `cargo bench -p host-bench -- FILTER`. All of it is in `benches/cases.rs`.
