//! Files that change, in all ways in which they do.

use std::{fs, os::unix::fs::symlink};

use integration_tests::lab::run_test;

use super::{DIRECTORY, Watch, replace, switch, watched};
use crate::edit;

#[test]
fn applies_what_changes_and_leaves_it_running() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        fs::write(&file, switch("a", 100)).expect("a file in a tmpfs");
        let mut watch = Watch::start(lab, &format!("-f {}", file.display()));
        watch.wait_for_aging("a", 100);
        // In place.
        fs::write(&file, switch("a", 101)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 101);
        // By renaming a new one over it.
        replace(&file, &switch("a", 102));
        watch.wait_for_aging("a", 102);
        // As some editors do: the old one becomes a backup, the new one is created in its place.
        fs::rename(&file, file.with_extension("yaml~")).expect("a file can be renamed");
        fs::write(&file, switch("a", 103)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 103);
        // By removing and creating it.
        fs::remove_file(&file).expect("a file can be removed");
        watch.wait_for(0, "what runs stays");
        fs::write(&file, switch("a", 104)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 104);
        // By a link to another file, and a change to that.
        let other = watched().join("other");
        fs::write(&other, switch("a", 105)).expect("a file in a tmpfs");
        fs::remove_file(&file).expect("a file can be removed");
        symlink("other", &file).expect("a link in a tmpfs");
        watch.wait_for_aging("a", 105);
        fs::write(&other, switch("a", 106)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 106);
        let ids = lab.ids();
        watch.stop();
        assert_eq!(lab.ids(), ids, "everything keeps running");
        lab.assert_converged(&switch("a", 106));
    });
}

#[test]
fn a_config_map() {
    run_test(|lab| {
        let directory = watched();
        let generation = |number: u32| {
            let name = format!("..generation{number}");
            fs::create_dir(directory.join(&name)).expect("a directory in a tmpfs");
            fs::write(directory.join(&name).join("a.yaml"), switch("a", number))
                .expect("a file in a tmpfs");
            symlink(&name, directory.join("..data_tmp")).expect("a link in a tmpfs");
            fs::rename(directory.join("..data_tmp"), directory.join("..data"))
                .expect("a link can be renamed");
        };
        generation(100);
        symlink("..data/a.yaml", directory.join("a.yaml")).expect("a link in a tmpfs");
        for arguments in [format!("-f {DIRECTORY}"), format!("-f {DIRECTORY}/a.yaml")] {
            let mut watch = Watch::start(lab, &arguments);
            watch.wait_for_aging("a", 100);
            for number in [101, 102] {
                generation(number);
                fs::remove_dir_all(directory.join(format!("..generation{}", number - 1)))
                    .expect("it is there");
                watch.wait_for_aging("a", number);
            }
            watch.stop();
            fs::remove_dir_all(directory.join("..generation102")).expect("it is there");
            generation(100);
        }
    });
}

#[test]
fn a_directory_and_what_is_wrong_in_it() {
    run_test(|lab| {
        let directory = watched();
        fs::write(directory.join("a.yaml"), switch("a", 100)).expect("a file in a tmpfs");
        let mut watch = Watch::start(lab, &format!("-f {DIRECTORY}"));
        watch.wait_for_aging("a", 100);
        fs::write(directory.join("b.yaml"), switch("b", 200)).expect("a file in a tmpfs");
        watch.wait_for_aging("b", 200);
        // A bad file is reported with its place, and what runs stays; others go on.
        let from = watch.log_length();
        let bad = edit(&switch("a", 101), "bridge", "brigde");
        fs::write(directory.join("a.yaml"), bad).expect("a file in a tmpfs");
        watch.wait_for(from, &format!("{DIRECTORY}/a.yaml:7:18"));
        fs::write(directory.join("b.yaml"), switch("b", 201)).expect("a file in a tmpfs");
        watch.wait_for_aging("b", 201);
        watch.wait_for_aging("a", 100);
        fs::write(directory.join("a.yaml"), switch("a", 102)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 102);
        // Two files for one topology contradict each other.
        let from = watch.log_length();
        fs::write(directory.join("c.yaml"), switch("a", 103)).expect("a file in a tmpfs");
        watch.wait_for(from, "a.yaml");
        watch.wait_for(from, "topology a is in several files");
        watch.wait_for_aging("a", 102);
        fs::remove_file(directory.join("a.yaml")).expect("it is there");
        watch.wait_for_aging("a", 103);
        // Without its file a topology stays.
        let from = watch.log_length();
        fs::remove_file(directory.join("b.yaml")).expect("it is there");
        watch.wait_for(from, "topology b is in no file any more");
        // Nor does it matter when the directory goes; it may come again.
        fs::rename(directory, "/run/elsewhere").expect("a directory can be renamed");
        watch.wait_for(from, "cannot be read");
        let directory = watched();
        fs::write(directory.join("b.yaml"), switch("b", 202)).expect("a file in a tmpfs");
        watch.wait_for_aging("b", 202);
        watch.wait_for_aging("a", 103);
        watch.stop();
    });
}

#[test]
fn a_file_that_is_bad_from_the_start() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        let mut watch = Watch::start(lab, &format!("-f {}", file.display()));
        watch.wait_for(0, "cannot be read");
        fs::write(&file, "kind: Topology\n").expect("a file in a tmpfs");
        watch.wait_for(0, "a.yaml:1:1");
        fs::write(&file, switch("a", 100)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 100);
        watch.stop();
    });
}
