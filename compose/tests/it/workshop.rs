//! A directory for one test, and what comes out of its files.

use std::fs;

use cutover_compose::{Input, Loaded, Severity, load, normalized};
use cutover_core::spec::ServiceSpec;
use tempfile::TempDir;

/// A project in a directory of its own.
pub(crate) struct Workshop {
    dir: TempDir,
    pub(crate) input: Input,
}

impl Workshop {
    /// With these files; the first is named with `-f` if it is no default name.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        let input = Input {
            project_dir: Some(dir.path().to_owned()),
            app: Some("shop".parse().expect("a name")),
            ..Input::default()
        };
        Self { dir, input }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.input
            .variables
            .insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn files(mut self, names: &[&str]) -> Self {
        self.input.files = names
            .iter()
            .map(|name| self.dir.path().join(name))
            .collect();
        self
    }

    /// The release, or every problem; the directory's name taken out.
    pub(crate) fn load(&self) -> Result<Loaded, String> {
        load(&self.input).map_err(|problems| self.plain(&problems.to_string()))
    }

    pub(crate) fn loaded(&self) -> Loaded {
        match self.load() {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}"),
        }
    }

    /// The errors, one a line.
    pub(crate) fn errors(&self) -> Vec<String> {
        match load(&self.input) {
            Ok(loaded) => panic!("no error, but:\n{}", normalized(&loaded.release)),
            Err(problems) => problems
                .errors()
                .map(|problem| self.plain(&problem.to_string()))
                .collect(),
        }
    }

    /// Warnings and notes of a release, one a line.
    pub(crate) fn notes(&self, severity: Severity) -> Vec<String> {
        let notes = self.loaded().notes;
        notes
            .iter()
            .filter(|note| note.severity == severity)
            .map(|note| self.plain(&note.to_string()))
            .collect()
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.dir.path().display()), "")
            .replace(&self.dir.path().display().to_string(), "DIR")
    }
}

/// A file with one service `web`, whose lines (at column 5) are these; the first is line 3.
pub(crate) fn web(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("services:\n  web:\n{lines}")
}

/// The only service of such a file.
pub(crate) fn spec(lines: &str) -> ServiceSpec {
    let mut release = Workshop::new(&[("compose.yaml", &web(lines))])
        .loaded()
        .release;
    assert_eq!(release.services.len(), 1);
    release.services.remove(0)
}

/// The errors of such a file.
pub(crate) fn errors(lines: &str) -> Vec<String> {
    Workshop::new(&[("compose.yaml", &web(lines))]).errors()
}

/// The warnings of such a file, but those of `web` as a whole.
pub(crate) fn warnings(lines: &str) -> Vec<String> {
    let mut warnings = Workshop::new(&[("compose.yaml", &web(lines))]).notes(Severity::Warning);
    warnings.retain(|warning| !warning.contains("'services.web' "));
    warnings
}
