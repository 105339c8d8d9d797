//! A guess at what a long text says, before it is read: the same text with most of the items of its longest list left out.
//!
//! Nothing is decided by it. It only serves for beginning what takes long and will most likely be needed.

use crate::diagnostic::Source;

/// Items from which a list is worth it.
const MANY: usize = 1000;
/// Items that stay.
const KEPT: usize = 100;

/// A text with items left out.
#[derive(Debug)]
pub struct Sketch {
    /// The rest.
    pub source: Source,
    /// How many items of the list stay, at least.
    pub kept: usize,
    /// How many do not.
    pub left_out: usize,
}

/// Leaves out items of the longest list whose items are a line each, such as `- { protocol: tcp, action: drop }` or, between
/// brackets, `{ protocol: tcp, action: drop },`. `None` if there is no long one.
#[must_use]
pub fn sketch(source: &Source) -> Option<Sketch> {
    let text = source.text.as_str();
    let mut longest: Option<Run> = None;
    let mut current: Option<Run> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let kind = kind(line);
        let end = at + line.len();
        match (&mut current, kind) {
            (Some(run), Some(kind)) if run.kind == kind => run.add(end),
            (_, kind) => {
                let ended = std::mem::replace(&mut current, kind.map(|kind| Run::new(kind, end)));
                longest = longer(longest, ended);
            }
        }
        at = end;
    }
    let run = longer(longest, current).filter(|run| run.items >= MANY)?;
    let mut shorter = text.get(..run.kept)?.to_owned();
    shorter.push_str(text.get(run.end..)?);
    Some(Sketch {
        source: Source {
            name: source.name.clone(),
            text: shorter,
        },
        kept: KEPT,
        left_out: run.items - KEPT,
    })
}

/// Items that follow one another.
struct Run {
    kind: Kind,
    items: usize,
    /// Where the items end that stay.
    kept: usize,
    end: usize,
}

/// Bytes in front of an item, whether it begins with a dash, and whether it ends with a comma.
type Kind = (usize, bool, bool);

impl Run {
    fn new(kind: Kind, end: usize) -> Self {
        Self {
            kind,
            items: 1,
            kept: end,
            end,
        }
    }

    fn add(&mut self, end: usize) {
        self.items += 1;
        self.end = end;
        if self.items <= KEPT {
            self.kept = end;
        }
    }
}

fn longer(one: Option<Run>, other: Option<Run>) -> Option<Run> {
    match (one, other) {
        (Some(one), Some(other)) if other.items > one.items => Some(other),
        (one, other) => one.or(other),
    }
}

/// What kind of item a line is, if it is one as a whole.
fn kind(line: &str) -> Option<Kind> {
    let item = line.trim_start_matches(' ');
    let indent = line.len() - item.len();
    let item = item.trim_end();
    let dash = item.starts_with("- {");
    let comma = item.ends_with("},");
    let whole = (dash || item.starts_with('{')) && (comma || item.ends_with('}'));
    whole.then_some((indent, dash, comma))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: String) -> Option<Sketch> {
        let name = "t.yaml".to_owned();
        sketch(&Source { name, text })
    }

    #[test]
    fn the_longest_list_becomes_short() {
        let items = |count: usize, item: &str| item.repeat(count);
        let few = items(KEPT, "  - { a: 1 }\n");
        let text = format!(
            "few:\n{few}many: [\n{}{{ b: 2 }}]\nend: 3\n",
            items(2 * MANY, "{ b: 2 },\n")
        );
        let sketch = of(text).expect("there is a long list");
        let expected = format!(
            "few:\n{few}many: [\n{}{{ b: 2 }}]\nend: 3\n",
            items(KEPT, "{ b: 2 },\n")
        );
        assert_eq!(sketch.source.text, expected);
        assert_eq!((sketch.kept, sketch.left_out), (KEPT, 2 * MANY - KEPT));
    }

    #[test]
    fn there_may_be_none() {
        for text in [
            String::new(),
            "- { a: 1 }\n".repeat(MANY - 1),
            "- a: 1\n  b: 2\n".repeat(2 * MANY),
        ] {
            assert!(of(text).is_none());
        }
        assert!(of("- { a: 1 }\n".repeat(MANY)).is_some());
    }
}
