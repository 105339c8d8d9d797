//! From the events of the parser to the tree, within limits.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::beside::{Step, beside, is_long};
use super::place::{fatal, location, narrow, syntax_error, too_deep};
use super::{
    Document, Entry, FEW, MAX_ALIASES, MAX_BYTES, MAX_DEPTH, MAX_VALUES, Map, Node, NodeId, Scalar,
    Value,
};
use crate::decode::MAX_PROBLEMS;
use crate::diagnostic::{Diagnostic, Location, Source};
use crate::path::Path;
use crate::text::quote;

/// Reads a text; what hinders no reading (a key given twice) comes beside the document, what does comes instead of it.
pub(crate) fn read(source: &Source) -> Result<(Document<'_>, Vec<Diagnostic>), Vec<Diagnostic>> {
    if source.text.len() > MAX_BYTES {
        let message = format!("the text is larger than {} MiB", MAX_BYTES >> 20);
        return Err(vec![Diagnostic::error("too-large", &Path::root(), message)]);
    }
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let parser = Parser::new_from_str_with_options(&source.text, options);
    let builder = if is_long(&source.text) {
        beside(parser, |events| Builder::default().events(events))
    } else {
        Builder::default().events(parser)
    };
    let mut builder = builder?;
    match builder.root {
        Some(root) => Ok((
            Document {
                nodes: builder.nodes,
                root,
            },
            builder.problems,
        )),
        None => {
            builder.problems.push(
                Diagnostic::error(
                    "empty-document",
                    &Path::root(),
                    "there is no topology in the text",
                )
                .help("a topology begins with `apiVersion: pcn.dev/v1alpha1`"),
            );
            Err(builder.problems)
        }
    }
}

#[derive(Default)]
struct Builder<'t> {
    nodes: Vec<Node<'t>>,
    frames: Vec<Frame<'t>>,
    anchors: HashMap<usize, NodeId>,
    aliases: usize,
    values: u64,
    documents: usize,
    root: Option<NodeId>,
    problems: Vec<Diagnostic>,
}

/// A list or mapping that is not closed yet.
struct Frame<'t> {
    anchor: usize,
    start: Span,
    weight: u64,
    height: usize,
    content: Content<'t>,
}

enum Content<'t> {
    List(Vec<NodeId>),
    Map {
        entries: Vec<Entry<'t>>,
        key: Option<(Cow<'t, str>, Location)>,
    },
}

impl<'t> Builder<'t> {
    /// Takes all events; what hinders reading ends it.
    fn events(mut self, events: impl Iterator<Item = Step<'t>>) -> Result<Self, Vec<Diagnostic>> {
        for event in events {
            let step = match event {
                Ok((event, span)) => self.event(event, span),
                Err(error) => Err(syntax_error(&error)),
            };
            if let Err(mut diagnostic) = step {
                diagnostic.path = self.path();
                self.problems.push(diagnostic);
                return Err(self.problems);
            }
        }
        Ok(self)
    }

    fn event(&mut self, event: Event<'t>, span: Span) -> Result<(), Diagnostic> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(fatal(
                        "several-documents",
                        span,
                        "there is a second document in the text",
                    )
                    .help("one file holds one topology"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(Frame {
                    content:
                        Content::Map {
                            key: key @ None, ..
                        },
                    ..
                }) = self.frames.last_mut()
                {
                    *key = Some((text, location(span)));
                    return Ok(());
                }
                let plain = style == ScalarStyle::Plain && tag.is_none();
                self.refuse_tag(tag.is_some(), span);
                let value = Value::Scalar(Scalar { text, plain });
                self.finish(
                    Node {
                        value,
                        location: location(span),
                        weight: 1,
                        height: 0,
                    },
                    anchor,
                    span,
                )
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                self.open(anchor, span, Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                self.open(
                    anchor,
                    span,
                    Content::Map {
                        entries: Vec::new(),
                        key: None,
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::UnresolvedAlias(name) => Err(fatal(
                "unknown-anchor",
                span,
                format!("there is no anchor {}", quote(&name)),
            )),
            // Neither comments nor the names of anchors are asked for, and the parser may grow events.
            _ => Ok(()),
        }
    }

    /// Where the value that comes next belongs.
    fn path(&self) -> Path {
        self.frames
            .iter()
            .fold(Path::root(), |path, frame| match &frame.content {
                Content::List(items) => path.index(items.len()),
                Content::Map {
                    key: Some((key, _)),
                    ..
                } => path.key(key),
                Content::Map { key: None, .. } => path,
            })
    }

    fn problem(&mut self, problem: Diagnostic) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn refuse_tag(&mut self, tagged: bool, span: Span) {
        if tagged {
            let span = span.tag_span().unwrap_or(span);
            let problem = fatal(
                "unsupported-tag",
                span,
                "tags have no meaning in a topology",
            );
            self.problem(Diagnostic {
                path: self.path(),
                ..problem.help("remove it")
            });
        }
    }

    fn open(&mut self, anchor: usize, start: Span, content: Content<'t>) -> Result<(), Diagnostic> {
        if let Some(Frame {
            content: Content::Map { key: None, .. },
            ..
        }) = self.frames.last()
        {
            return Err(fatal(
                "complex-key",
                start,
                "a key must be text, not a list or a mapping",
            ));
        }
        if self.frames.len() >= MAX_DEPTH {
            return Err(too_deep().at(Some(location(start))));
        }
        self.frames.push(Frame {
            anchor,
            start,
            weight: 1,
            height: 0,
            content,
        });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Diagnostic> {
        let Some(Frame {
            anchor,
            start,
            weight,
            height,
            content,
        }) = self.frames.pop()
        else {
            return Ok(());
        };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(self.index(entries)),
        };
        // A flow collection is shown as a whole, a block collection by its beginning.
        let mut place = location(start);
        if end.start.line() == start.start.line() && end.end.index() > end.start.index() {
            place.length = narrow(end.end.index().saturating_sub(start.start.index())).max(1);
        }
        self.finish(
            Node {
                value,
                location: place,
                weight,
                height: height + 1,
            },
            anchor,
            end,
        )
    }

    /// Sorts the entries of a mapping by key, reporting and dropping all but the first of each.
    fn index(&mut self, entries: Vec<Entry<'t>>) -> Map<'t> {
        let is_new = |(at, entry): (usize, &Entry<'_>)| {
            entries[..at].iter().all(|before| before.key != entry.key)
        };
        if entries.len() <= FEW && entries.iter().enumerate().all(is_new) {
            let order = Vec::new();
            return Map { entries, order };
        }
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by(|&a, &b| entries[a].key.cmp(&entries[b].key).then(a.cmp(&b)));
        let mut repeated = vec![false; entries.len()];
        for group in order.chunk_by(|&a, &b| entries[a].key == entries[b].key) {
            for &again in &group[1..] {
                repeated[again] = true;
                let Entry {
                    key, key_location, ..
                } = &entries[again];
                let first = entries[group[0]].key_location.line;
                self.problem(
                    Diagnostic::error(
                        "duplicate-key",
                        &self.path().key(key),
                        format!("{} is given twice", quote(key)),
                    )
                    .help(format!("the first one is on line {first}"))
                    .at(Some(*key_location)),
                );
            }
        }
        if !repeated.contains(&true) {
            return Map { entries, order };
        }
        let entries: Vec<Entry<'_>> = entries
            .into_iter()
            .zip(repeated)
            .filter(|(_, repeated)| !repeated)
            .map(|(entry, _)| entry)
            .collect();
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by(|&a, &b| entries[a].key.cmp(&entries[b].key));
        Map { entries, order }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Diagnostic> {
        self.aliases += 1;
        if self.aliases > MAX_ALIASES {
            return Err(fatal(
                "too-many-aliases",
                span,
                format!("there are more than {MAX_ALIASES} aliases"),
            ));
        }
        if let Some(Frame {
            content: Content::Map { key: None, .. },
            ..
        }) = self.frames.last()
        {
            return Err(fatal(
                "complex-key",
                span,
                "a key must be text, not an alias",
            ));
        }
        let Some(&id) = self.anchors.get(&anchor) else {
            return Err(fatal(
                "alias-cycle",
                span,
                "an alias must not stand inside of what it repeats",
            ));
        };
        let Node { weight, height, .. } = self.nodes[id];
        if self.frames.len() + height > MAX_DEPTH {
            return Err(too_deep().at(Some(location(span))));
        }
        self.attach(id, weight, height, span)
    }

    fn finish(&mut self, node: Node<'t>, anchor: usize, span: Span) -> Result<(), Diagnostic> {
        let (weight, height) = (node.weight, node.height);
        let id = self.nodes.len();
        self.nodes.push(node);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        // The values inside of a collection were counted when they were attached to it.
        self.attach(id, if height == 0 { weight } else { 1 }, height, span)?;
        if let (true, Some(frame)) = (height > 0, self.frames.last_mut()) {
            frame.weight += weight - 1;
        }
        Ok(())
    }

    fn attach(
        &mut self,
        id: NodeId,
        weight: u64,
        height: usize,
        span: Span,
    ) -> Result<(), Diagnostic> {
        self.values += weight;
        if self.values > MAX_VALUES {
            let message =
                format!("there are more than {MAX_VALUES} values in the text, aliases expanded");
            return Err(fatal("too-many-values", span, message));
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root.get_or_insert(id);
            return Ok(());
        };
        frame.weight += weight;
        frame.height = frame.height.max(height);
        match &mut frame.content {
            Content::List(items) => items.push(id),
            Content::Map { entries, key } => {
                if let Some((key, key_location)) = key.take() {
                    entries.push(Entry {
                        key,
                        key_location,
                        value: id,
                    });
                }
            }
        }
        Ok(())
    }
}
