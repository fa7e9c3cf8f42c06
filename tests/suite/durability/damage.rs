//! Damages store files as disks and people do. A server refuses a damaged file in one line, or
//! serves it. Every message that it then delivers was put into that topic under that id, byte for
//! byte; anything else is an error. `dsmq check` finds all missing data.
//!
//! `image` makes the files, `injury` damages a copy, `survey` reads everything from a server.
//! `DSMQ_DAMAGES` sets the number of cases; `DSMQ_SEED` repeats the random choices.

mod image;
mod injury;
mod survey;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use self::image::Image;
use self::injury::Injury;
use self::survey::Survey;
use crate::suite::support::folder::{Folder, copy_store};
use crate::suite::support::process::{Process, dsmq, run};
use crate::suite::support::random::{Random, number, seed};

/// The most notes and violations to print.
const FAULTS_PRINTED: usize = 20;

#[test]
fn damaged_messages_are_never_delivered() {
    let (damages, seed) = (number("DSMQ_DAMAGES", 25), seed());
    let began = Instant::now();
    let folder = Folder::new("damage");
    let mut random = Random(seed);
    let stopped = Image::stopped(&folder, &mut random);
    let killed = Image::killed(&stopped, &folder, &mut random);
    let images = [stopped, killed];
    for image in &images {
        check_undamaged_file(&folder, image);
    }
    check_changed_expectation(&folder, &images[0]);
    let mut tally = Tally::default();
    for case in 0..damages {
        let image = &images[random.below(2) as usize];
        let copy = folder.path("copy.db");
        copy_store(&image.store, &copy);
        let injury = Injury::inflict(&copy, &mut random);
        tally.case(&folder, image, &format!("case {case}, {injury}"), injury.in_wal);
    }
    println!(
        "{damages} damaged files in {:.0?}: {} refused at opening, {} found at reading, {} found \
         only by check, {} cut short in the log beside the file, {} found by nothing, since nothing \
         was missing; violations {}; DSMQ_SEED={seed}",
        began.elapsed(),
        tally.refused,
        tally.read,
        tally.checked,
        tally.cut,
        tally.harmless,
        tally.faults.len(),
    );
    assert!(tally.faults.is_empty(), "DSMQ_SEED={seed}: {}", tally.report());
}

/// The results of the cases.
#[derive(Default)]
struct Tally {
    refused: u64,
    read: u64,
    checked: u64,
    cut: u64,
    harmless: u64,
    notes: Vec<String>,
    faults: Vec<String>,
}

impl Tally {
    fn report(&self) -> String {
        let lines = |list: &[String]| -> String {
            list.iter().take(FAULTS_PRINTED).map(|line| format!("\n- {line}")).collect()
        };
        format!("violations:{}\nnotes:{}", lines(&self.faults), lines(&self.notes))
    }

    fn case(&mut self, folder: &Folder, image: &Image, name: &str, in_wal: bool) {
        let copy = folder.path("copy.db");
        let served = folder.path("served.db");
        copy_store(&copy, &served);
        let well = check(&copy).unwrap_or_else(|fault| {
            self.faults.push(format!("{name}: {fault}"));
            false
        });
        let (ended, survey) = serve(folder, &served, image);
        let stderr = folder.text("stderr");
        if stderr.contains("panicked") {
            self.faults.push(format!("{name}: {stderr}"));
        }
        let Some(survey) = survey else {
            self.refused += 1;
            if ended != Some(1) || stderr.lines().count() != 1 {
                self.faults.push(format!("{name}: exit code {ended:?}, and {stderr:?}"));
            }
            if well {
                self.faults.push(format!("{name}: check finds nothing, and {stderr:?}"));
            }
            return;
        };
        self.faults.extend(survey.wrong.iter().take(3).map(|wrong| format!("{name}: {wrong}")));
        let violations = survey.violations(image);
        let cut = in_wal && survey.is_cut_short(image);
        match (survey.errors.is_empty(), well, violations.is_empty()) {
            (false, false, _) => self.read += 1,
            // The damage was found when reading, but not by the check.
            (false, true, _) => {
                self.read += 1;
                self.faults.push(format!("{name}: check finds nothing, and {:?}", survey.errors));
            }
            (true, false, _) => self.checked += 1,
            (true, true, true) => self.harmless += 1,
            (true, true, false) if cut => {
                self.cut += 1;
                let some = violations.len();
                self.notes.push(format!("{name}: the last commits are gone, {some} differences"));
            }
            (true, true, false) => {
                let some = &violations[..violations.len().min(3)];
                let count = violations.len();
                self.faults.push(format!("{name}: check finds nothing, and {count}: {some:?}"));
            }
        }
    }
}

/// An undamaged file must have no findings.
fn check_undamaged_file(folder: &Folder, image: &Image) {
    let copy = folder.path("whole.db");
    copy_store(&image.store, &copy);
    assert_eq!(check(&copy), Ok(true), "{}", image.store.display());
    let (ended, survey) = serve(folder, &copy, image);
    let survey = survey.unwrap_or_else(|| panic!("{}", folder.text("stderr")));
    assert_eq!(ended, Some(0));
    let odd = [survey.wrong.first(), survey.errors.keys().next()];
    assert_eq!((odd, survey.violations(image).first()), ([None, None], None));
}

/// A message that differs from the expected one must be found: the test changes the expectation.
fn check_changed_expectation(folder: &Folder, image: &Image) {
    let mut other = image.clone();
    let left = |at: &(usize, u64)| !image.taken.contains(at);
    let some: Vec<_> = image.put.keys().copied().filter(left).take(3).collect();
    other.put.insert(some[0], "\"another text\"".to_owned());
    other.put.remove(&some[1]);
    // No message has this id.
    other.put.insert((some[2].0, 1), "\"never put\"".to_owned());
    let copy = folder.path("whole.db");
    copy_store(&image.store, &copy);
    let (_, survey) = serve(folder, &copy, &other);
    let survey = survey.unwrap_or_else(|| panic!("{}", folder.text("stderr")));
    let wrong = |action| survey.wrong.iter().filter(|wrong| wrong.starts_with(action)).count();
    assert_eq!(["get", "subscribe"].map(wrong), [2, 2], "{:?}", survey.wrong);
    assert_eq!(survey.violations(&other).len(), 2, "one message is missing and one is unexpected");
    assert!(!survey.is_cut_short(&other));
}

/// Starts a server on a file and reads everything. Returns its exit code, and the survey unless it
/// refused the file.
fn serve(folder: &Folder, store: &Path, image: &Image) -> (Option<i32>, Option<Survey>) {
    let mut command = dsmq(&["--port", "0", "--log", "error", "--sync", "off", "--store"]);
    command.arg(store).stderr(folder.output("stderr"));
    let mut process = Process::spawn(&mut command);
    let Some(addr) = process.address() else { return (process.end().code, None) };
    let survey = Survey::of(addr, image);
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    (process.end().code, Some(survey))
}

/// Whether `dsmq check` reports no faults.
fn check(store: &Path) -> Result<bool, String> {
    let ended = run(dsmq(&["check"]).arg(store).stderr(Stdio::piped()), "");
    let lines = ended.stdout.len() + ended.stderr.lines().count();
    match ended.code {
        Some(0) if lines == 1 => Ok(true),
        Some(1) if lines >= 1 && !ended.stderr.contains("panicked") => Ok(false),
        // Without its first page a file cannot be told from any other.
        Some(2) if lines == 1 && ended.stderr.contains("its first page is damaged") => Ok(false),
        _ => Err(format!("dsmq check: {ended:?}")),
    }
}
