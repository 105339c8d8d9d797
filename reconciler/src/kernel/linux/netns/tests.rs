//! On the real kernel, in namespaces of these tests' own; without root each test says so and does nothing.

use std::{fs, path::Path, process::Command, thread};

use super::*;

/// A namespace that goes away with the test.
struct Namespace(String);

impl Namespace {
    fn name(stem: &str) -> String {
        format!("pcntest-{}-{stem}", std::process::id())
    }

    fn new(stem: &str) -> Self {
        let name = Self::name(stem);
        create(&name).unwrap();
        Self(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.0).unwrap();
    }
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn identity() -> PathBuf {
    fs::read_link(OF_THIS_THREAD).unwrap()
}

#[test]
fn a_namespace_comes_and_goes() {
    if !root() {
        return;
    }
    let name = Namespace::name("cycle");
    assert!(!exists(&name));
    assert!(open(&name).unwrap_err().is_not_found());
    assert!(inside(&name, || ()).unwrap_err().is_not_found());
    delete(&name).unwrap();

    create(&name).unwrap();
    assert!(exists(&name));
    let twice = create(&name).unwrap_err();
    assert!(twice.is_exists(), "{twice}");
    assert_eq!(
        twice.to_string(),
        format!("create /run/netns/{name}: File exists (os error 17)")
    );
    assert!(
        exists(&name),
        "a refused creation leaves the namespace alone"
    );

    delete(&name).unwrap();
    assert!(!exists(&name) && !Path::new(DIRECTORY).join(&name).exists());
    delete(&name).unwrap();
}

#[test]
fn inside_is_another_namespace_and_outside_stays() {
    if !root() {
        return;
    }
    let namespace = Namespace::new("inside");
    let outside = identity();
    let found = inside(&namespace.0, identity).unwrap();
    assert_ne!(found, outside);
    assert_eq!(inside(&namespace.0, identity).unwrap(), found);
    assert_eq!(identity(), outside);
}

#[test]
fn a_panic_inside_is_passed_on() {
    if !root() {
        return;
    }
    let namespace = Namespace::new("panic");
    let panicked = panic::catch_unwind(|| inside(&namespace.0, || panic!("inside")));
    assert_eq!(
        panicked.unwrap_err().downcast_ref::<&str>(),
        Some(&"inside")
    );
}

#[test]
fn a_leftover_file_is_no_namespace_and_is_taken_over() {
    if !root() {
        return;
    }
    drop(Namespace::new("make-directory"));
    let name = Namespace::name("leftover");
    fs::write(Path::new(DIRECTORY).join(&name), "").unwrap();
    assert!(!exists(&name));
    let refused = open(&name).unwrap_err();
    assert!(
        matches!(refused, Error::NotANamespace { .. }) && refused.is_not_found(),
        "{refused}"
    );
    create(&name).unwrap();
    assert!(exists(&name));
    delete(&name).unwrap();

    fs::write(Path::new(DIRECTORY).join(&name), "somebody's").unwrap();
    assert!(create(&name).unwrap_err().is_exists());
    delete(&name).unwrap();
}

#[test]
fn ip_netns_agrees() {
    if !root() || Command::new("ip").arg("-V").output().is_err() {
        return;
    }
    let ip = |arguments: &[&str]| {
        let output = Command::new("ip")
            .arg("netns")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let ours = Namespace::new("ours");
    assert!(
        ip(&["list"])
            .lines()
            .any(|line| line.split(' ').next() == Some(&ours.0))
    );
    let theirs = Namespace::name("theirs");
    ip(&["add", &theirs]);
    assert!(exists(&theirs));
    assert_ne!(inside(&theirs, identity).unwrap(), identity());
    delete(&theirs).unwrap();
    ip(&["delete", &ours.0]);
    assert!(!exists(&ours.0));
}

#[test]
fn many_creators_at_once() {
    if !root() {
        return;
    }
    let name = Namespace::name("race");
    let won = thread::scope(|scope| {
        let creators: Vec<_> = (0..8).map(|_| scope.spawn(|| create(&name))).collect();
        creators
            .into_iter()
            .filter_map(|creator| creator.join().unwrap().ok())
            .count()
    });
    assert_eq!(won, 1);
    delete(&name).unwrap();
    assert!(
        !exists(&name),
        "one delete is enough: nothing was mounted twice"
    );
}

#[test]
fn sysctls_are_written_inside_only() {
    if !root() {
        return;
    }
    let namespace = Namespace::new("sysctl");
    let read = || fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
    let outside = read();
    write_sysctl(Some(&namespace.0), "net/ipv4/ip_default_ttl", "77").unwrap();
    assert_eq!(inside(&namespace.0, read).unwrap(), "77\n");
    assert_eq!(read(), outside);

    let missing = write_sysctl(Some(&namespace.0), "net/ipv4/no_such", "1").unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
    assert!(missing.to_string().contains(&format!(
        "1 to sysctl net/ipv4/no_such in namespace {}",
        namespace.0
    )));
    let refused = write_sysctl(Some(&namespace.0), "net/ipv4/ip_default_ttl", "many").unwrap_err();
    assert!(!refused.is_not_found() && !refused.is_exists(), "{refused}");
}

#[test]
fn names_that_are_no_file_names_are_refused() {
    for name in ["", ".", "..", "a/b", "a\0b", &"n".repeat(256)] {
        assert!(matches!(create(name), Err(Error::Name { .. })), "{name:?}");
        assert!(matches!(delete(name), Err(Error::Name { .. })), "{name:?}");
        assert!(!exists(name), "{name:?}");
    }
}
