//! The public functions of the libraries, as rustdoc tells them, and the source text that refers to each.
//!
//! A function without parameters of types is referred to by its path. One that has some, or that gives an
//! `impl Iterator`, is code only once somebody has chosen the types and driven the iterator: those stand in
//! `kernel-tests/prove/src/generic.rs`, by the name they have here, and one that is missing there is an error.
//!
//! `Debug` is left out: it prints text and floats by `core`'s own routines, which can panic, and is for people at a desk.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The versions of rustdoc's format that this was written for: `name`, `inner`, `paths` and `items` mean the same in all.
const FORMATS: std::ops::RangeInclusive<u64> = 56..=60;

/// Types with parameters, and what these are set to.
const INSTANCES: [(&str, &[&str]); 3] = [
    ("corelm_ops::view::Rows", &["F32", "F16", "Bf16", "BlockQ4_0", "BlockQ4_1", "BlockQ8_0"]),
    ("corelm_ops::view::Packed", &["panel::PanelQ4_0", "panel::PanelQ4_1", "panel::PanelQ8_0"]),
    ("corelm::gguf::writer::Writer", &["&mut [u8]"]),
];

/// Functions that only one architecture has, though the documentation shows them everywhere.
const ONLY_ON: [(&str, &str); 2] = [
    ("corelm_ops::cpu::Features::detect_el1", "aarch64"),
    ("corelm_ops::cpu::Features::detect_ring0", "x86_64"),
];

/// A public function: its name, and the path that refers to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Export {
    /// The name in reports.
    pub name: String,
    path: String,
}

/// The public functions of some crates.
#[derive(Debug, Default)]
pub struct Api {
    /// Those that a path refers to.
    pub exports: BTreeSet<Export>,
    /// Names of those that types must be chosen for.
    pub generic: BTreeSet<String>,
    /// Where rustdoc's own path of a type is not the one it is public by.
    public_paths: BTreeMap<String, String>,
}

impl Api {
    /// Adds the functions of a crate from what rustdoc wrote about it; the crates it refers to come first.
    ///
    /// # Errors
    ///
    /// When the text is not what rustdoc writes.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let json: Value = serde_json::from_str(text)?;
        let format = json["format_version"].as_u64().context("no `format_version`")?;
        ensure!(FORMATS.contains(&format), "rustdoc writes format {format}, known are {FORMATS:?}");
        let mut documented = Crate { json: &json, paths: BTreeMap::new() };
        documented.walk(&json["root"], None);
        for (id, path) in &documented.paths {
            let own = documented.own_path(id);
            self.public_paths.entry(own.unwrap_or_else(|| path.clone())).or_insert_with(|| path.clone());
        }
        for (id, path) in &documented.paths {
            self.add_item(&documented, id, path)?;
        }
        Ok(())
    }

    fn add_item(&mut self, documented: &Crate<'_>, id: &str, path: &str) -> Result<()> {
        let inner = &documented.item(id)["inner"];
        if inner["function"].is_object() {
            self.add_function(&inner["function"], path.to_owned(), path.to_owned());
        }
        let impls = ["struct", "enum", "union"].map(|kind| &inner[kind]["impls"]);
        for id in impls.into_iter().chain([&inner["trait"]["implementations"]]).flat_map(ids) {
            let block = &documented.item(&id)["inner"]["impl"];
            // Traits on types of this crate are met with the types.
            let is_met = inner["trait"].is_object() && documented.paths.contains_key(&type_id(&block["for"]));
            if block["is_synthetic"] == true || !block["blanket_impl"].is_null() || is_met {
                continue;
            }
            self.add_impl(documented, block)?;
        }
        Ok(())
    }

    /// The functions of an `impl` block.
    fn add_impl(&mut self, documented: &Crate<'_>, block: &Value) -> Result<()> {
        let Some(of_trait) = self.trait_text(documented, &block["trait"]) else { return Ok(()) };
        if of_trait == "core::fmt::Debug" {
            return Ok(());
        }
        let ty = self.type_text(documented, &block["for"]).context("a type this cannot write")?;
        let arguments =
            INSTANCES.iter().find(|(path, _)| *path == ty).map_or(&[][..], |(_, arguments)| arguments);
        let is_generic = has_type_parameters(&block["generics"]);
        if is_generic && arguments.is_empty() {
            bail!("{ty} has parameters: say in INSTANCES what to set them to");
        }
        let instances: Vec<String> = if is_generic {
            let qualified = |argument: &&str| {
                if argument.starts_with('&') {
                    (*argument).to_owned()
                } else {
                    format!("corelm_ops::{argument}")
                }
            };
            arguments.iter().map(|argument| format!("{ty}<{}>", qualified(argument))).collect()
        } else {
            vec![ty.clone()]
        };
        for id in ids(&block["items"]) {
            let item = documented.item(&id);
            let Some(method) = item["name"].as_str() else { continue };
            if !item["inner"]["function"].is_object() {
                continue;
            }
            let function = &item["inner"]["function"];
            for instance in &instances {
                let (name, path) = match &*of_trait {
                    "" => (format!("{ty}::{method}"), format!("<{instance}>::{method}")),
                    "core::ops::Drop" => {
                        (format!("drop {ty}"), format!("core::ptr::drop_in_place::<{instance}>"))
                    }
                    _ => {
                        let path = format!("<{instance} as {of_trait}>::{method}");
                        (path.clone(), path)
                    }
                };
                self.add_function(function, name, path);
            }
        }
        Ok(())
    }

    fn add_function(&mut self, function: &Value, name: String, path: String) {
        let gives_iterator = function["sig"]["output"].to_string().contains("impl_trait");
        if has_type_parameters(&function["generics"]) || gives_iterator {
            self.generic.insert(name);
        } else {
            self.exports.insert(Export { name, path });
        }
    }

    /// The trait of an `impl` block as text: empty where there is none, `None` for one of another crate than ours or
    /// `core`.
    fn trait_text(&self, documented: &Crate<'_>, of_trait: &Value) -> Option<String> {
        if of_trait.is_null() {
            return Some(String::new());
        }
        let own = documented.own_path(&of_trait["id"].to_string())?;
        if !["core", "corelm", "corelm_ops"].contains(&own.split("::").next()?) {
            return None;
        }
        let mut text = self.public_paths.get(&own).unwrap_or(&own).clone();
        // `core` keeps these in private modules and shows them here.
        for shown in ["core::ops", "core::iter"] {
            if text.starts_with(shown)
                && let Some(name) = text.rsplit("::").next()
            {
                text = format!("{shown}::{name}");
            }
        }
        let arguments = of_trait["args"]["angle_bracketed"]["args"].as_array();
        let types = arguments.into_iter().flatten().filter_map(|argument| argument.get("type"));
        let types: Vec<String> = types.filter_map(|ty| self.type_text(documented, ty)).collect();
        if !types.is_empty() {
            let _ = write!(text, "<{}>", types.join(", "));
        }
        Some(text)
    }

    /// A type as text, without lifetimes and without the parameters of our own types.
    fn type_text(&self, documented: &Crate<'_>, ty: &Value) -> Option<String> {
        if let Some(name) = ty["primitive"].as_str() {
            return Some(name.to_owned());
        }
        if let Some(id) = ty["resolved_path"]["id"].as_u64() {
            let id = id.to_string();
            let own = documented.own_path(&id)?;
            return Some(documented.paths.get(&id).or(self.public_paths.get(&own)).unwrap_or(&own).clone());
        }
        if ty["slice"].is_object() {
            return Some(format!("[{}]", self.type_text(documented, &ty["slice"])?));
        }
        if ty["borrowed_ref"].is_object() {
            let reference = &ty["borrowed_ref"];
            let mutability = if reference["is_mutable"] == true { "mut " } else { "" };
            return Some(format!("&{mutability}{}", self.type_text(documented, &reference["type"])?));
        }
        None
    }

    /// The source of the list of exports, one a line, and their names in the same order.
    pub fn source(&self, architecture: &str, wanted: impl Fn(&str) -> bool) -> (String, Vec<String>) {
        let is_here = |export: &&Export| {
            let only = ONLY_ON.iter().find(|(name, _)| *name == export.name);
            only.is_none_or(|(_, only)| *only == architecture) && wanted(&export.name)
        };
        let exports: Vec<&Export> = self.exports.iter().filter(is_here).collect();
        let lines: String =
            exports.iter().map(|export| format!("    Export({} as *const ()),\n", export.path)).collect();
        let source = format!(
            "/// Every public function without parameters of types.\n#[unsafe(link_section = \".corelm_exports\")]\n\
             static EXPORTS: [Export; {}] = [\n{lines}];\n",
            exports.len()
        );
        (source, exports.iter().map(|export| export.name.clone()).collect())
    }
}

/// A crate as rustdoc describes it.
struct Crate<'a> {
    json: &'a Value,
    /// What is public, by id: the path to it.
    paths: BTreeMap<String, String>,
}

impl Crate<'_> {
    fn item(&self, id: &str) -> &Value {
        &self.json["index"][id]
    }

    /// Collects the paths of what is in a module; `path` is `None` for the root.
    fn walk(&mut self, module: &Value, path: Option<&str>) {
        let json = self.json;
        let module = &json["index"][module.to_string()];
        let name = module["name"].as_str().unwrap_or_default();
        let path = path.map_or_else(|| name.to_owned(), |path| format!("{path}::{name}"));
        for id in ids(&module["inner"]["module"]["items"]) {
            let item = &json["index"][&id];
            let used = &item["inner"]["use"];
            if item["inner"]["module"].is_object() {
                self.walk(&item["id"], Some(&path));
            } else if used.is_object() {
                let target = used["id"].to_string();
                if json["index"][&target].is_object()
                    && !json["index"][&target]["inner"]["module"].is_object()
                {
                    let name = used["name"].as_str().unwrap_or_default();
                    self.paths.entry(target).or_insert_with(|| format!("{path}::{name}"));
                }
            } else if let Some(name) = item["name"].as_str() {
                self.paths.insert(id, format!("{path}::{name}"));
            }
        }
    }

    /// The path of the module that an item, of whatever crate, was written in.
    fn own_path(&self, id: &str) -> Option<String> {
        let path = self.json["paths"][id]["path"].as_array()?;
        let parts: Vec<&str> = path.iter().filter_map(Value::as_str).collect();
        Some(parts.join("::"))
    }
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(Value::to_string).collect()
}

/// The id of a named type; empty for others.
fn type_id(ty: &Value) -> String {
    ty["resolved_path"]["id"].as_u64().map_or_else(String::new, |id| id.to_string())
}

/// Whether there are parameters other than lifetimes.
fn has_type_parameters(generics: &Value) -> bool {
    let is_type = |parameter: &Value| parameter["kind"].get("lifetime").is_none();
    generics["params"].as_array().is_some_and(|parameters| parameters.iter().any(is_type))
}
