//! Topologies as drawings.

use std::collections::BTreeMap;

use topology_schema::{Endpoint, Name, Topology};

/// What is drawn, independent of the language.
struct Drawing<'a> {
    name: &'a Name,
    nodes: BTreeMap<Node, String>,
    edges: Vec<Edge>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Cube(String),
    Namespace(String),
    Interface(String),
}

struct Edge {
    from: Node,
    to: Node,
    label: String,
}

impl Node {
    /// An identifier that all languages take.
    fn id(&self) -> String {
        let (kind, name) = match self {
            Self::Cube(name) => ("cube", name),
            Self::Namespace(name) => ("namespace", name),
            Self::Interface(name) => ("interface", name),
        };
        let escaped: String = name
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("_{byte:02x}")
                }
            })
            .collect();
        format!("{kind}_{escaped}")
    }
}

/// Graphviz.
pub fn dot(topology: &Topology) -> String {
    let drawing = Drawing::new(topology);
    let mut out = format!("graph \"{}\" {{\n  rankdir=LR;\n", drawing.name);
    for (node, label) in &drawing.nodes {
        let shape = match node {
            Node::Cube(_) => "box",
            Node::Namespace(_) => "ellipse",
            Node::Interface(_) => "hexagon",
        };
        out.push_str(&format!(
            "  {} [shape={shape}, label=\"{}\"];\n",
            node.id(),
            quoted(label)
        ));
    }
    for Edge { from, to, label } in &drawing.edges {
        out.push_str(&format!(
            "  {} -- {} [label=\"{}\"];\n",
            from.id(),
            to.id(),
            quoted(label)
        ));
    }
    out.push_str("}\n");
    out
}

/// Mermaid.
pub fn mermaid(topology: &Topology) -> String {
    let drawing = Drawing::new(topology);
    let mut out = format!("---\ntitle: {}\n---\nflowchart LR\n", drawing.name);
    let text = |label: &str| {
        label
            .replace('#', "#35;")
            .replace('"', "#quot;")
            .replace('\n', "<br>")
    };
    for (node, label) in &drawing.nodes {
        let (open, close) = match node {
            Node::Cube(_) => ("[", "]"),
            Node::Namespace(_) => ("([", "])"),
            Node::Interface(_) => ("{{", "}}"),
        };
        out.push_str(&format!(
            "  {}{open}\"{}\"{close}\n",
            node.id(),
            text(label)
        ));
    }
    for Edge { from, to, label } in &drawing.edges {
        out.push_str(&format!(
            "  {} ---|\"{}\"| {}\n",
            from.id(),
            text(label),
            to.id()
        ));
    }
    out
}

impl<'a> Drawing<'a> {
    fn new(topology: &'a Topology) -> Self {
        let spec = &topology.spec;
        let mut drawing = Self {
            name: &topology.metadata.name,
            nodes: BTreeMap::new(),
            edges: Vec::new(),
        };
        for (name, cube) in &spec.cubes {
            drawing.nodes.insert(
                Node::Cube(name.to_string()),
                format!("{name}\n{}", cube.kind().name()),
            );
        }
        for name in spec.namespaces.keys() {
            drawing.nodes.insert(
                Node::Namespace(name.to_string()),
                format!("{name}\nnamespace"),
            );
        }
        for name in spec.interfaces.keys() {
            drawing.interface(topology, name.as_str());
        }
        let mut links: Vec<_> = spec.links.iter().map(|link| link.endpoints()).collect();
        for ends in &mut links {
            ends.sort();
        }
        links.sort();
        for [a, b] in links {
            let (from, to) = (drawing.node(topology, a), drawing.node(topology, b));
            let label = match (end(topology, a), end(topology, b)) {
                (from, to) if from.is_empty() || to.is_empty() => format!("{from}{to}"),
                (from, to) => format!("{from} - {to}"),
            };
            drawing.edges.push(Edge { from, to, label });
        }
        drawing
    }

    fn interface(&mut self, topology: &Topology, name: &str) -> Node {
        let node = Node::Interface(name.to_owned());
        let settings = topology
            .spec
            .interfaces
            .iter()
            .find(|(interface, _)| interface.as_str() == name);
        let hook = settings.map_or("tc", |(_, settings)| settings.hook.name());
        let through = settings
            .map(|(_, settings)| stack(&settings.through))
            .unwrap_or_default();
        self.nodes
            .insert(node.clone(), format!("{name}\n{hook}{through}"));
        node
    }

    fn node(&mut self, topology: &Topology, endpoint: &Endpoint) -> Node {
        match endpoint {
            Endpoint::Port { cube, .. } => Node::Cube(cube.to_string()),
            Endpoint::Namespace { namespace, .. } => Node::Namespace(namespace.to_string()),
            Endpoint::Host(name) => self.interface(topology, name.as_str()),
        }
    }
}

/// What an edge says of one of its ends.
fn end(topology: &Topology, endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Port { cube, port } => {
            let through = topology
                .spec
                .cubes
                .get(cube)
                .map(|cube| stack(cube.through(port)))
                .unwrap_or_default();
            format!("{port}{through}")
        }
        Endpoint::Namespace { interface, .. } => interface.to_string(),
        Endpoint::Host(_) => String::new(),
    }
}

fn stack(through: &[Name]) -> String {
    if through.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = through.iter().map(Name::as_str).collect();
    format!(" ({})", names.join(", "))
}

/// A label in double quotes.
fn quoted(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
