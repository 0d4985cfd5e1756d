//! What is read: which files, from where, with which variables.
//!
//! Command line first, then the environment, then `.env`, then Compose's
//! default names. Reads files and nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cutover_core::{AppName, ServiceName};

use crate::dotenv::{self, Format};
use crate::image::ImageOverride;
use crate::interpolate::Variables;
use crate::problem::{Log, Severity};
use crate::yaml::MAX_FILE;

/// Compose's names for the file, the preferred first.
const DEFAULT_FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];
/// Compose's names for the file that is merged into a default one.
const OVERRIDE_FILES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// What a release is made from.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// `-f`, in order; none: `COMPOSE_FILE`, else Compose's default names in `project_dir`.
    pub files: Vec<PathBuf>,
    /// Where relative paths begin; `None`: where the first file is.
    pub project_dir: Option<PathBuf>,
    /// `-p`; `None`: `COMPOSE_PROJECT_NAME`, else the file's `name`, else the directory's.
    pub app: Option<AppName>,
    /// The process's environment.
    pub variables: BTreeMap<String, String>,
    /// Profiles that are on, besides those of `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// `--image`.
    pub images: Vec<ImageOverride>,
    /// `--only`; none: every service whose profiles are on.
    pub only: Vec<ServiceName>,
}

/// The input, with files found and variables known.
pub(crate) struct Project {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) dir: PathBuf,
    pub(crate) variables: Variables,
    pub(crate) profiles: Vec<String>,
}

/// Finds the files and reads `.env`.
pub(crate) fn locate(input: &Input, log: &Log) -> Option<Project> {
    let start = input
        .project_dir
        .clone()
        .unwrap_or_else(|| PathBuf::from("."));
    let given = |files: Vec<PathBuf>| {
        let dir = input
            .project_dir
            .clone()
            .or_else(|| files.first().map(|file| parent(file)))?;
        Some((files, dir))
    };
    let (files, dir) = if !input.files.is_empty() {
        given(input.files.clone())?
    } else {
        let variables = environment(&start, &input.variables, log);
        match variables
            .get("COMPOSE_FILE")
            .filter(|text| !text.is_empty())
        {
            Some(text) => {
                let separator = variables
                    .get("COMPOSE_PATH_SEPARATOR")
                    .filter(|text| !text.is_empty());
                let names = text
                    .split(separator.map_or(":", String::as_str))
                    .filter(|name| !name.is_empty());
                given(names.map(|name| join(&start, name)).collect())?
            }
            None => (discover(&start, log)?, start),
        }
    };
    let variables = environment(&dir, &input.variables, log);
    if variables
        .get("COMPOSE_ENV_FILES")
        .is_some_and(|text| !text.is_empty())
    {
        log.say(
            Severity::Warning,
            None,
            "COMPOSE_ENV_FILES",
            "is not acted on: variables come from the environment and '.env' alone",
            "",
        );
    }
    let listed = variables
        .get("COMPOSE_PROFILES")
        .map_or("", String::as_str)
        .split(',')
        .map(str::trim);
    let profiles = input.profiles.iter().map(String::as_str).chain(listed);
    let profiles = profiles
        .filter(|profile| !profile.is_empty())
        .map(str::to_owned)
        .collect();
    Some(Project {
        files,
        dir,
        variables,
        profiles,
    })
}

/// A path of the file system, seen from `dir`; without a needless `./`.
pub(crate) fn join(dir: &Path, path: &str) -> PathBuf {
    let path = path.strip_prefix("./").unwrap_or(path);
    if dir == Path::new(".") {
        PathBuf::from(path)
    } else {
        dir.join(path)
    }
}

fn parent(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn discover(dir: &Path, log: &Log) -> Option<Vec<PathBuf>> {
    let present = |names: [&str; 4]| -> Vec<PathBuf> {
        names
            .iter()
            .map(|name| join(dir, name))
            .filter(|path| path.is_file())
            .collect()
    };
    let found = present(DEFAULT_FILES);
    let Some(first) = found.first() else {
        log.refuse(
            format!("there is no Compose file in {}", dir.display()),
            format!("name one with -f; looked for {}", DEFAULT_FILES.join(", ")),
        );
        return None;
    };
    let aside = |path: &PathBuf, what: String| {
        log.say(
            Severity::Warning,
            None,
            &path.display().to_string(),
            what,
            "say with -f what is meant",
        );
    };
    for other in &found[1..] {
        aside(
            other,
            format!("is not read: {} comes first", first.display()),
        );
    }
    let mut files = vec![first.clone()];
    let overrides = present(OVERRIDE_FILES);
    for (index, path) in overrides.iter().enumerate() {
        if index == 0 {
            log.say(
                Severity::Note,
                None,
                &path.display().to_string(),
                format!("is merged into {}", first.display()),
                "",
            );
            files.push(path.clone());
        } else {
            aside(
                path,
                format!("is not read: {} comes first", overrides[0].display()),
            );
        }
    }
    Some(files)
}

/// The process's environment upon `.env`.
fn environment(dir: &Path, process: &Variables, log: &Log) -> Variables {
    let path = join(dir, ".env");
    let mut variables = Variables::new();
    if path.is_file() {
        let name: Arc<str> = path.display().to_string().into();
        match text(&path) {
            Ok(text) => {
                variables.extend(dotenv::parse(&name, &text, Format::Compose, process, log))
            }
            Err(error) => log.refuse(format!("{} {error}", path.display()), ""),
        }
    }
    variables.extend(
        process
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    variables
}

/// The bytes of a file, at most [`MAX_FILE`] and one more; or why not, without
/// the path, which may hold what a variable was replaced by.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err("is no file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    Ok(bytes)
}

/// The text of a file; or why not.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    let bytes = bytes(path)?;
    if bytes.len() > MAX_FILE {
        return Err(format!("has more than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}
