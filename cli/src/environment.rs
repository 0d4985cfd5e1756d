//! What the process's environment says, read once.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Variables of the environment; those that are not UTF-8 are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// This process's.
    pub(crate) fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables }
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let pairs = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        Self {
            variables: pairs.collect(),
        }
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// All of them.
    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Nobody looks at a moving picture there.
    pub(crate) fn is_ci(&self) -> bool {
        self.get("CI")
            .is_some_and(|value| value != "false" && value != "0")
            || self.get("TERM") == Some("dumb")
    }

    /// Colours were declined (no-color.org).
    pub(crate) fn no_color(&self) -> bool {
        self.get("NO_COLOR").is_some()
    }

    /// The user's home.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    /// Where this program's settings are: `$XDG_CONFIG_HOME/cutover`, else `~/.config/cutover`.
    pub(crate) fn config_folder(&self) -> Option<PathBuf> {
        let absolute = |path: PathBuf| path.is_absolute().then_some(path);
        self.get("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .and_then(absolute) // the specification: a relative one is to be ignored
            .or_else(|| Some(self.home()?.join(".config")))
            .map(|folder| folder.join("cutover"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_where_xdg_says() {
        let folder = |pairs: &[(&str, &str)]| Environment::of(pairs).config_folder();
        let at = |path: &str| Some(PathBuf::from(path));
        assert_eq!(
            folder(&[("HOME", "/home/a")]),
            at("/home/a/.config/cutover")
        );
        let both = [("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/x")];
        assert_eq!(folder(&both), at("/x/cutover"));
        let relative = [("HOME", "/home/a"), ("XDG_CONFIG_HOME", "x")];
        assert_eq!(folder(&relative), at("/home/a/.config/cutover"));
        assert_eq!(folder(&[]), None);
    }

    #[test]
    fn ci_is_what_ci_systems_set() {
        assert!(Environment::of(&[("CI", "true")]).is_ci());
        assert!(Environment::of(&[("TERM", "dumb")]).is_ci());
        assert!(!Environment::of(&[("CI", "false")]).is_ci());
        assert!(!Environment::of(&[("CI", "")]).is_ci());
    }
}
