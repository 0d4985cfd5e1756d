//! Image references, and `--image` that replaces them.

use std::str::FromStr;

/// Longest image reference, in bytes; the engine's names are far shorter.
const MAX_REFERENCE: usize = 512;

/// `--image SERVICE=REF` or `--image REPO=REF`: another image than the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOverride {
    /// A service, or the repository (without tag or digest) of one or more.
    pub name: String,
    /// The image they get.
    pub reference: String,
}

/// Why a text is no `--image`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageOverrideError {
    /// There is no `=`, or nothing on one side of it.
    #[error("{0:?} is no image: write SERVICE=IMAGE or REPOSITORY=IMAGE")]
    Form(String),
    /// What is right of the `=` is no image reference.
    #[error("{0:?} is no image reference: write it like registry.example.com/team/name:tag")]
    Reference(String),
}

impl FromStr for ImageOverride {
    type Err = ImageOverrideError;

    fn from_str(text: &str) -> Result<Self, ImageOverrideError> {
        match text.split_once('=') {
            Some((name, reference)) if !name.is_empty() && !reference.is_empty() => {
                if !is_reference(reference) {
                    return Err(ImageOverrideError::Reference(reference.to_owned()));
                }
                Ok(Self {
                    name: name.to_owned(),
                    reference: reference.to_owned(),
                })
            }
            Some(_) | None => Err(ImageOverrideError::Form(text.to_owned())),
        }
    }
}

/// Whether this can be an image reference (`name[:tag][@digest]` or an id).
pub(crate) fn is_reference(text: &str) -> bool {
    let good =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | ':' | '@' | '-' | '+');
    let repository = repository(text);
    text.len() <= MAX_REFERENCE
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(good)
        && !text.ends_with([':', '@', '/'])
        && text.matches('@').count() <= 1
        && !repository.is_empty()
        && !repository.contains("//")
        && !path(repository).chars().any(|c| c.is_ascii_uppercase())
}

/// The reference without tag and digest.
pub(crate) fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        Some(_) | None => name,
    }
}

/// A repository without its registry's host.
fn path(repository: &str) -> &str {
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        Some(_) | None => repository,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_reference_without_tag_and_digest() {
        for (reference, expected) in [
            ("web", "web"),
            ("web:1.2", "web"),
            ("localhost:5000/a/web", "localhost:5000/a/web"),
            ("localhost:5000/a/web:1@sha256:ab", "localhost:5000/a/web"),
        ] {
            assert_eq!(repository(reference), expected);
        }
    }

    #[test]
    fn only_what_the_engine_takes_is_a_reference() {
        for good in [
            "web",
            "a/b:1",
            "Reg.example.com/a/b@sha256:00ff",
            "localhost:5000/x:y",
            "sha256:abcdef",
        ] {
            assert!(is_reference(good), "{good}");
        }
        for bad in [
            "",
            "-x",
            "a b",
            "Web",
            "a:",
            "a//b",
            "a@b@c",
            "$x",
            ":1",
            &"a".repeat(600),
        ] {
            assert!(!is_reference(bad), "{bad}");
        }
    }

    #[test]
    fn an_override_is_a_name_and_a_reference() {
        let parsed: ImageOverride = "web=shop/web:2".parse().expect("both sides");
        assert_eq!(
            (parsed.name.as_str(), parsed.reference.as_str()),
            ("web", "shop/web:2")
        );
        assert!("web".parse::<ImageOverride>().is_err());
        assert!("web=".parse::<ImageOverride>().is_err());
        assert!("web=a b".parse::<ImageOverride>().is_err());
    }
}
