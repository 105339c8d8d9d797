//! A cube that comes or goes as a whole: all that its facts say, as one text. It may have thousands of rules that nobody
//! asks for one by one.

use serde_json::value::RawValue;
use topology_schema::{CubeKind, Instance};

use super::{Fields, Items, POSITION, RULES, Shape, key_of, parsed, text};
use crate::cube::driver_for;

/// An entry: its path below the cube, and its JSON.
type Entry = (String, String);

/// The cube's fact with its entries by field and key.
pub(crate) fn whole(cube: &Instance) -> Box<RawValue> {
    let kind = cube.kind();
    let text = text(&cube.cube);
    let mut own = vec![("kind".to_owned(), json_text(kind.name()))];
    if let Some(drift) = &cube.drift {
        own.push(("drift".to_owned(), json_text(drift)));
    }
    let mut entries = Vec::new();
    for (field, value) in &Fields::of(&text).member(kind.name()).0 {
        match Shape::of(value) {
            Shape::Object => members(kind, field, value, &mut entries),
            Shape::Array => items(field, by(kind, field).unwrap_or(""), value, &mut entries),
            Shape::Scalar => own.push((field.clone(), value.get().to_owned())),
        }
    }
    // As facts sort. Those of one path stay in their order.
    entries.sort_by(|(path, _), (other, _)| path.cmp(other));
    let text = object(
        own.into_iter()
            .chain(fields(&entries))
            .map(|(key, text)| (json_text(&key), text)),
    );
    RawValue::from_string(text).unwrap_or_default()
}

fn by(kind: CubeKind, path: &str) -> Option<&'static str> {
    let mut lists = driver_for(kind).lists().iter();
    lists.find(|(list, _)| *list == path).map(|(_, by)| *by)
}

fn members(kind: CubeKind, field: &str, value: &RawValue, entries: &mut Vec<Entry>) {
    for (key, member) in &Fields::of(value.get()).0 {
        let path = format!("{field}/{key}");
        match (
            Shape::of(member),
            by(kind, &path).or_else(|| by(kind, field)),
        ) {
            (Shape::Array, Some(by)) => items(&path, by, member, entries),
            _ => entries.push((path, member.get().to_owned())),
        }
    }
}

fn items(path: &str, by: &str, list: &RawValue, entries: &mut Vec<Entry>) {
    let is_ordered = path.ends_with(RULES);
    // Where a text has not even the field's name, there is no need to take it apart.
    let named = (!by.is_empty() && !by.contains(' ')).then(|| format!("\"{by}\":"));
    for (index, item) in Items::of(list).0.into_iter().enumerate() {
        let text = item.get();
        let key = match &named {
            Some(named) if !text.contains(named) => index.to_string(),
            _ => key_of(&parsed(item), by, index),
        };
        let text = match text.strip_suffix('}').filter(|_| is_ordered) {
            Some(fields) => {
                let comma = if fields == "{" { "" } else { "," };
                format!("{fields}{comma}\"{POSITION}\":{index}}}")
            }
            None => text.to_owned(),
        };
        entries.push((format!("{path}/{key}"), text));
    }
}

/// The entries of each field. Those of one path are a list.
fn fields(entries: &[Entry]) -> impl Iterator<Item = Entry> {
    fn split(path: &str) -> (&str, &str) {
        path.split_once('/').unwrap_or((path, ""))
    }
    let fields = entries.chunk_by(|(one, _), (other, _)| split(one).0 == split(other).0);
    fields.map(|entries| {
        let keys = entries.chunk_by(|(one, _), (other, _)| one == other);
        let members = keys.map(|same| {
            let (path, first) = &same[0];
            let text = match same {
                [_] => first.clone(),
                several => {
                    let texts: Vec<&str> = several.iter().map(|(_, text)| text.as_str()).collect();
                    format!("[{}]", texts.join(","))
                }
            };
            (json_text(split(path).1), text)
        });
        (split(&entries[0].0).0.to_owned(), object(members))
    })
}

/// An object of keys and values that are JSON already.
fn object(members: impl Iterator<Item = Entry>) -> String {
    let mut text = "{".to_owned();
    for (number, (key, value)) in members.enumerate() {
        if number > 0 {
            text.push(',');
        }
        text.push_str(&key);
        text.push(':');
        text.push_str(&value);
    }
    text.push('}');
    text
}

fn json_text(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
