//! The journal on ordinary directories.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use topology_schema::{Source, load};

use super::*;

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pcn-journal-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn journal(&self, keep: usize) -> Journal {
        let bpffs = Path::new("/bpffs");
        let fail = |text: &str| panic!("{text}");
        Journal::new(&self.0.join("state"), bpffs, keep, fail)
            .with_events_in(&self.0.join("run"), bpffs)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

fn name() -> Name {
    "a".parse().unwrap()
}

fn topology(cubes: &str) -> Topology {
    let text = format!(
        "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: a }}\n\
         spec: {{ cubes: {{ {cubes} }} }}\n"
    );
    let source = Source {
        name: "a.yaml".to_owned(),
        text,
    };
    load(&source).unwrap().0.topology().clone()
}

fn kinds(journal: &Journal) -> Vec<Kind> {
    let events = journal.events().past(&name()).unwrap();
    events.iter().map(|event| event.kind).collect()
}

fn results(journal: &Journal) -> Vec<Conclusion> {
    let name = name();
    let transactions = journal.history().newest_first(&name);
    transactions.map(|transaction| transaction.result).collect()
}

/// An operation that starts and ends as told.
fn operate(journal: &Journal, result: Conclusion) {
    let mut operation = journal.begin(&name(), Command::Apply, None, None);
    operation.start(&Changes::default(), None);
    operation.finish(result, "");
}

#[test]
fn what_an_operation_did_can_be_read_again() {
    let scratch = Scratch::new("operation");
    let journal = scratch.journal(10);
    let (old, new) = [topology(""), topology("h: { hello: {} }")]
        .map(Arc::new)
        .into();
    let mut operation = journal.begin(
        &name(),
        Command::Apply,
        Some("a.yaml"),
        Some(Arc::clone(&new)),
    );
    let id = operation.id().to_owned();
    assert!(
        id.len() == 16 && id.chars().all(|digit| digit.is_ascii_hexdigit()),
        "{id}"
    );
    assert!(journal.history().topologies().unwrap().is_empty());
    operation.start(&Changes::default(), Some(Arc::clone(&old)));
    assert_eq!(results(&journal), [Conclusion::Running]);
    operation.finish(
        Conclusion::RolledBack,
        "cube/h: no memory\nEverything is back.",
    );

    let transaction = journal.history().read(&name(), 1).unwrap();
    assert_eq!(transaction.operation, id);
    assert_eq!(transaction.revision, Some(revision(&new)));
    assert_ne!(revision(&old), revision(&new));
    assert_eq!(transaction.after(), Ok(Some(&*old)));
    assert_eq!(transaction.wanted, Some(new));
    assert_eq!(transaction.source.as_deref(), Some("a.yaml"));

    let events = journal.events().past(&name()).unwrap();
    assert_eq!(kinds(&journal), [Kind::Started, Kind::RolledBack]);
    assert!(events.iter().all(|event| event.op.as_deref() == Some(&id)));
    assert_eq!(events[1].message, "cube/h: no memory");
    assert_eq!(journal.events().topologies().unwrap(), [name()]);
    assert_eq!(journal.history().topologies().unwrap(), [name()]);
}

#[test]
fn an_operation_that_is_dropped_was_interrupted_if_it_had_started() {
    let scratch = Scratch::new("dropped");
    let journal = scratch.journal(10);
    drop(journal.begin(&name(), Command::Apply, None, None));
    assert!(results(&journal).is_empty() && kinds(&journal).is_empty());
    let mut operation = journal.begin(&name(), Command::Apply, None, None);
    operation.start(&Changes::default(), None);
    drop(operation);
    assert_eq!(results(&journal), [Conclusion::Interrupted]);
    assert_eq!(kinds(&journal), [Kind::Started, Kind::Interrupted]);
    // One that fails before it starts is known all the same.
    let operation = journal.begin(&name(), Command::Apply, None, None);
    operation.finish(Conclusion::Failed, "refused");
    assert_eq!(results(&journal)[0], Conclusion::Failed);
}

#[test]
fn the_newest_are_kept_and_what_was_applied_last() {
    let scratch = Scratch::new("prune");
    let journal = scratch.journal(3);
    for _ in 0..5 {
        operate(&journal, Conclusion::Applied);
    }
    let numbers = || journal.history().numbers(&name()).unwrap();
    assert_eq!(numbers(), [3, 4, 5]);
    for _ in 0..4 {
        operate(&journal, Conclusion::RolledBack);
    }
    assert_eq!(numbers(), [5, 7, 8, 9]);
    // Numbers do not come again.
    operate(&journal, Conclusion::Applied);
    assert_eq!(numbers(), [5, 8, 9, 10]);
    operate(&journal, Conclusion::Applied);
    assert_eq!(numbers(), [9, 10, 11]);
    let none = scratch.journal(0);
    operate(&none, Conclusion::Applied);
    assert_eq!(numbers(), [9, 10, 11]);
}

#[test]
fn two_writers_never_share_a_number() {
    let scratch = Scratch::new("writers");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let journal = scratch.journal(1000);
                (0..25).for_each(|_| operate(&journal, Conclusion::Applied));
            });
        }
    });
    let journal = scratch.journal(1000);
    let numbers = journal.history().numbers(&name()).unwrap();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    let ids: std::collections::BTreeSet<String> = journal
        .history()
        .newest_first(&name())
        .map(|transaction| transaction.operation)
        .collect();
    assert_eq!(ids.len(), 100);
    assert_eq!(kinds(&journal).len(), 200);
    // No temporary file stays.
    let files = fs::read_dir(journal.history().directory(&name())).unwrap();
    assert_eq!(files.count(), 100);
}

#[test]
fn a_broken_file_is_left_out() {
    let scratch = Scratch::new("broken");
    let journal = scratch.journal(10);
    operate(&journal, Conclusion::Applied);
    operate(&journal, Conclusion::Stuck);
    operate(&journal, Conclusion::Applied);
    let directory = journal.history().directory(&name());
    fs::write(directory.join("000002.json"), "{").unwrap();
    fs::write(directory.join("notes.txt"), "mine").unwrap();
    assert_eq!(
        results(&journal),
        [Conclusion::Applied, Conclusion::Applied]
    );
    let error = journal.history().read(&name(), 2).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn what_cannot_be_written_is_told_once() {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    let nowhere = Path::new("/dev/null/pcn");
    let count = |text: &str| {
        assert!(text.contains("/dev/null/pcn"), "{text}");
        TOLD.fetch_add(1, Ordering::Relaxed);
    };
    let journal = Journal::new(nowhere, nowhere, 10, count).with_events_in(nowhere, nowhere);
    operate(&journal, Conclusion::Applied);
    operate(&journal, Conclusion::Applied);
    assert_eq!(TOLD.load(Ordering::Relaxed), 1);
}

#[test]
fn followers_miss_nothing_when_the_file_is_rotated() {
    let scratch = Scratch::new("rotation");
    let journal = scratch.journal(0);
    let padding = "x".repeat(4000);
    let mut follow = journal.events().follow(&name());
    let mut seen = Vec::new();
    for number in 0..600 {
        journal.emit(
            &name(),
            Kind::FileChanged,
            None,
            &format!("{number} {padding}"),
        );
        if number % 100 == 0 {
            seen.extend(follow.read_new().unwrap());
        }
    }
    seen.extend(follow.read_new().unwrap());
    let numbers: Vec<usize> = seen
        .iter()
        .map(|event| event.message.split_once(' ').unwrap().0.parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..600).collect::<Vec<_>>());
    // One older file stays, and what is in both is the past.
    let files = fs::read_dir(scratch.0.join("run")).unwrap();
    assert_eq!(files.count(), 2);
    let past = journal.events().past(&name()).unwrap();
    assert!(past.len() > 250 && past.len() < 600, "{}", past.len());
    assert_eq!(past.last(), seen.last());

    let mut late = journal.events().follow(&name());
    late.skip().unwrap();
    assert!(late.read_new().unwrap().is_empty());
    journal.emit(&name(), Kind::FileInvalid, None, "");
    assert_eq!(late.read_new().unwrap().len(), 1);
}

#[test]
fn a_line_that_is_half_written_waits_for_its_end() {
    let scratch = Scratch::new("half");
    let journal = scratch.journal(0);
    journal.emit(&name(), Kind::FileChanged, None, "one");
    let path = journal.events().path(&name());
    let whole = fs::read(&path).unwrap();
    let (first, second) = whole.split_at(20);
    fs::write(&path, first).unwrap();
    let mut follow = journal.events().follow(&name());
    assert!(follow.read_new().unwrap().is_empty());
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, second).unwrap();
    assert_eq!(follow.read_new().unwrap().len(), 1);
}

#[test]
fn other_scopes_are_left_out() {
    let scratch = Scratch::new("scopes");
    let journal = scratch.journal(10);
    operate(&journal, Conclusion::Applied);
    for other in ["/sys/fs/bpf/pcn", "/elsewhere"].map(Path::new) {
        let other = Journal::new(&scratch.0.join("state"), other, 10, |_| {})
            .with_events_in(&scratch.0.join("run"), other);
        assert!(other.history().topologies().unwrap().is_empty());
        assert!(other.events().topologies().unwrap().is_empty());
    }
}
