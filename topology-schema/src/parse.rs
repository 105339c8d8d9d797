//! From text to [`Topology`]: structure only. What it may say about other parts of the document is for `validate`.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::cube::{Cube, CubeKind};
use crate::decode::{Decoder, MAX_PROBLEMS, unknown_field};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, Source};
use crate::document::{self, Document, NodeId, Value};
use crate::instance::{self, Instance};
use crate::path::Path;
use crate::suggest;
use crate::text::ValueError;
use crate::topology::{ApiVersion, Kind, Metadata, Namespace, Spec, Topology};

/// Where the parts of a parsed topology are in its text.
#[derive(Debug, Default)]
pub struct Locations<'t> {
    document: Option<Document<'t>>,
}

impl Locations<'_> {
    /// No places: for a topology that did not come from a text.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The place of a path, or of the nearest thing around it that exists.
    #[must_use]
    pub fn locate(&self, path: &Path) -> Option<Location> {
        self.document.as_ref()?.locate(path)
    }
}

/// Reads a topology from YAML (or JSON, which is YAML). All structural problems are reported, each with its place.
///
/// # Errors
/// The problems, when there is any: bad syntax, a text beyond the limits, unknown or missing fields, wrong types.
pub fn parse(source: &Source) -> Result<Topology, Diagnostics> {
    parse_located(source).map(|(topology, _)| topology)
}

/// Like [`parse`], with the places that [`validate`](crate::validate) needs for its own messages.
///
/// # Errors
/// As [`parse`].
pub fn parse_located(source: &Source) -> Result<(Topology, Locations<'_>), Diagnostics> {
    let Parsed {
        topology,
        locations,
        problems,
        ..
    } = parse_partially(source);
    match topology {
        Some(topology) if problems.is_empty() => Ok((topology, locations)),
        Some(_) | None => Err(Diagnostics::new(problems)),
    }
}

/// As much of a topology as could be decoded.
pub(crate) struct Parsed<'t> {
    pub(crate) topology: Option<Topology>,
    pub(crate) locations: Locations<'t>,
    pub(crate) problems: Vec<Diagnostic>,
    /// What was left out of the topology because it is wrong.
    pub(crate) damaged: Vec<Path>,
}

pub(crate) fn parse_partially(source: &Source) -> Parsed<'_> {
    let (document, mut problems) = match document::read(source) {
        Ok(read) => read,
        Err(problems) => {
            return Parsed {
                topology: None,
                locations: Locations::none(),
                problems,
                damaged: Vec::new(),
            };
        }
    };
    let mut decoder = Decoder::new(&document);
    let topology = Parts {
        document: &document,
        decoder: &mut decoder,
    }
    .topology();
    if decoder.exhausted() {
        let message = format!("there are too many problems; at most {MAX_PROBLEMS} are shown");
        decoder.problems.push(Diagnostic::error(
            "too-many-problems",
            &Path::root(),
            message,
        ));
    }
    // A repeated key hides its second value from the rules.
    let mut damaged = decoder.damaged;
    damaged.extend(problems.iter().map(|problem| problem.path.clone()));
    problems.append(&mut decoder.problems);
    Parsed {
        topology,
        locations: Locations {
            document: Some(document),
        },
        problems,
        damaged,
    }
}

const TOPOLOGY_FIELDS: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
const SPEC_FIELDS: [&str; 6] = [
    "drift",
    "namespaces",
    "interfaces",
    "cubes",
    "links",
    "checks",
];
const NAMESPACE_FIELDS: [&str; 1] = ["interfaces"];

/// The outer levels are walked by hand, so that each element below is decoded on its own.
struct Parts<'a, 'd> {
    document: &'d Document<'d>,
    decoder: &'a mut Decoder<'d>,
}

impl Parts<'_, '_> {
    fn topology(&mut self) -> Option<Topology> {
        let root = self.document.root();
        let path = Path::root();
        let fields = self.fields(
            root,
            &path,
            &TOPOLOGY_FIELDS,
            "a topology, which is a mapping",
        )?;
        for field in TOPOLOGY_FIELDS {
            if !fields.contains_key(field) {
                let help = match field {
                    "apiVersion" => Some("write `apiVersion: pcn.dev/v1alpha1`".to_owned()),
                    "kind" => Some("write `kind: Topology`".to_owned()),
                    _ => None,
                };
                let missing =
                    Diagnostic::error("missing-field", &path, format!("`{field}` is missing"))
                        .maybe_help(help);
                self.decoder
                    .report(missing.at(self.document.locate(&path)), path.key(field));
            }
        }
        let api_version = fields.get("apiVersion").map(|&node| {
            self.decoder
                .decode::<ApiVersion>(node, &path.key("apiVersion"))
        });
        let kind = fields
            .get("kind")
            .map(|&node| self.decoder.decode::<Kind>(node, &path.key("kind")));
        let metadata = fields
            .get("metadata")
            .and_then(|&node| self.decoder.decode::<Metadata>(node, &path.key("metadata")));
        let spec = fields
            .get("spec")
            .and_then(|&node| self.spec(node, &path.key("spec")))?;
        Some(Topology {
            api_version: api_version.flatten().unwrap_or_default(),
            kind: kind.flatten().unwrap_or_default(),
            // Without its name the topology is refused, but the rules on the rest can still be applied.
            metadata: metadata.or_else(|| "unnamed".parse().ok().map(|name| Metadata { name }))?,
            spec,
        })
    }

    fn spec(&mut self, node: NodeId, path: &Path) -> Option<Spec> {
        let fields = self.fields(
            node,
            path,
            &SPEC_FIELDS,
            "a mapping with `cubes` and `links`",
        )?;
        let mut spec = Spec::default();
        if let Some(&node) = fields.get("drift") {
            spec.drift = self.leaf(node, &path.key("drift")).unwrap_or_default();
        }
        if let Some(&node) = fields.get("namespaces") {
            spec.namespaces = self.map(node, &path.key("namespaces"), Self::namespace);
        }
        if let Some(&node) = fields.get("interfaces") {
            spec.interfaces = self.map(node, &path.key("interfaces"), Self::leaf);
        }
        if let Some(&node) = fields.get("cubes") {
            spec.cubes = self.map(node, &path.key("cubes"), Self::cube);
        }
        if let Some(&node) = fields.get("links") {
            spec.links = self.list(node, &path.key("links"));
        }
        if let Some(&node) = fields.get("checks") {
            spec.checks = self.list(node, &path.key("checks"));
        }
        Some(spec)
    }

    fn namespace(&mut self, node: NodeId, path: &Path) -> Option<Namespace> {
        let fields = self.fields(node, path, &NAMESPACE_FIELDS, "a mapping with `interfaces`")?;
        let interfaces = fields
            .get("interfaces")
            .map(|&node| self.map(node, &path.key("interfaces"), Self::leaf));
        Some(Namespace {
            interfaces: interfaces.unwrap_or_default(),
        })
    }

    /// A cube: its kind, and beside it what can be said of all kinds.
    fn cube(&mut self, node: NodeId, path: &Path) -> Option<Instance> {
        let document = self.document;
        let Value::Map(map) = &document.node(node).value else {
            return self.leaf::<Cube>(node, path).map(Instance::from);
        };
        let is_kind = |key: &str| CubeKind::ALL.iter().any(|kind| kind.name() == key);
        // With its kind known, what else is there is a field; without, it may be a kind that is misspelt.
        let has_kind = map.entries.iter().any(|entry| is_kind(&entry.key));
        let is_present = |name: &str| map.get(name).is_some();
        let mut drift = None;
        for (position, entry) in map.entries.iter().enumerate() {
            let path = path.key(&entry.key);
            if entry.key == "drift" {
                drift = self.leaf(entry.value, &path);
            } else if has_kind && !is_kind(&entry.key) {
                let problem = unknown_field(&entry.key, &instance::FIELDS, &is_present, &path)
                    .at(Some(entry.key_location));
                self.decoder.report(problem, path);
            } else {
                continue;
            }
            self.decoder.skip(node, position);
        }
        if drift.is_some() && map.entries.len() == 1 {
            let kinds = CubeKind::ALL.map(CubeKind::name);
            let problem =
                Diagnostic::error("missing-field", path, "this cube has no kind".to_owned())
                    .help(format!(
                        "the kinds are {}",
                        suggest::list(kinds.into_iter())
                    ))
                    .at(document.locate(path));
            self.decoder.report(problem, path.clone());
            return None;
        }
        let cube = self.leaf::<Cube>(node, path)?;
        Some(Instance { cube, drift })
    }

    fn leaf<T: DeserializeOwned>(&mut self, node: NodeId, path: &Path) -> Option<T> {
        self.decoder.decode(node, path)
    }

    /// The fields of a mapping by name; those that are not expected are reported.
    fn fields(
        &mut self,
        node: NodeId,
        path: &Path,
        expected: &'static [&'static str],
        what: &str,
    ) -> Option<BTreeMap<&'static str, NodeId>> {
        let document = self.document;
        let Value::Map(map) = &document.node(node).value else {
            self.wrong_type(node, path, what);
            return None;
        };
        let is_present = |name: &str| map.get(name).is_some();
        let mut fields = BTreeMap::new();
        for entry in &map.entries {
            if self.decoder.exhausted() {
                break;
            }
            match expected.iter().find(|known| entry.key == **known) {
                Some(known) => {
                    fields.insert(*known, entry.value);
                }
                None => {
                    let path = path.key(&entry.key);
                    let problem = unknown_field(&entry.key, expected, &is_present, &path)
                        .at(Some(entry.key_location));
                    self.decoder.report(problem, path);
                }
            }
        }
        Some(fields)
    }

    fn wrong_type(&mut self, node: NodeId, path: &Path, expected: &str) {
        let problem = self.decoder.wrong_type(node, expected, path);
        self.decoder.report(problem, path.clone());
    }

    fn map<K: FromStr<Err = ValueError> + Ord, V>(
        &mut self,
        node: NodeId,
        path: &Path,
        mut value: impl FnMut(&mut Self, NodeId, &Path) -> Option<V>,
    ) -> BTreeMap<K, V> {
        let document = self.document;
        let Value::Map(map) = &document.node(node).value else {
            self.wrong_type(node, path, "a mapping");
            return BTreeMap::new();
        };
        let mut decoded = BTreeMap::new();
        for entry in &map.entries {
            if self.decoder.exhausted() {
                break;
            }
            let path = path.key(&entry.key);
            match entry.key.parse() {
                Ok(key) => {
                    if let Some(value) = value(self, entry.value, &path) {
                        decoded.insert(key, value);
                    }
                }
                Err(ValueError {
                    code,
                    message,
                    help,
                }) => {
                    let problem = Diagnostic::error(code.as_str(), &path, message).maybe_help(help);
                    self.decoder
                        .report(problem.at(Some(entry.key_location)), path.clone());
                    // Its settings may be wrong as well.
                    value(self, entry.value, &path);
                }
            }
        }
        decoded
    }

    fn list<T: DeserializeOwned>(&mut self, node: NodeId, path: &Path) -> Vec<T> {
        let document = self.document;
        let Value::List(items) = &document.node(node).value else {
            self.wrong_type(node, path, "a list");
            return Vec::new();
        };
        let mut decoded = Vec::with_capacity(items.len());
        for (index, &item) in items.iter().enumerate() {
            if self.decoder.exhausted() {
                break;
            }
            decoded.extend(self.decoder.decode::<T>(item, &path.index(index)));
        }
        decoded
    }
}
