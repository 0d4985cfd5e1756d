//! Every crate that is built may be shipped: its licence is one that deny.toml
//! allows, none is banned there, and all come from a registry or from here.
//!
//! The same file tells cargo-deny, which sees more where it is installed; this
//! needs nothing but cargo, so that it runs everywhere.

use serde_json::Value;
use toml::Table;

use crate::Finding;

/// What deny.toml says.
#[derive(Debug, Default)]
pub struct Rules {
    allowed: Vec<String>,
    banned: Vec<String>,
}

impl Rules {
    /// Reads deny.toml.
    ///
    /// # Errors
    /// When it is no TOML.
    pub fn of(text: &str) -> Result<Self, toml::de::Error> {
        let table: Table = text.parse()?;
        let list = |heading: &str, key: &str| {
            let list = table.get(heading).and_then(|table| table.get(key));
            list.and_then(toml::Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|entry| {
                    let name = entry.get("crate").or_else(|| entry.get("name"));
                    name.unwrap_or(entry).as_str().map(str::to_owned)
                })
                .collect()
        };
        Ok(Self {
            allowed: list("licenses", "allow"),
            banned: list("bans", "deny"),
        })
    }

    /// Whether a licence expression can be met. `/` is an old way to write OR.
    #[must_use]
    pub fn allow(&self, expression: &str) -> bool {
        let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
        // Without brackets, AND binds closer. Brackets are dropped: then every word of
        // what they held must be good in one of the OR's parts, which errs on the safe side.
        expression.split(" OR ").any(|all| {
            all.split(" AND ")
                .all(|one| self.allowed.iter().any(|good| good == one.trim()))
        })
    }

    /// What of `cargo metadata` may not be built in.
    #[must_use]
    pub fn broken(&self, metadata: &Value) -> Vec<Finding> {
        let resolved: Vec<&str> = metadata["resolve"]["nodes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|resolved| resolved["id"].as_str())
            .collect();
        let packages = metadata["packages"].as_array().into_iter().flatten();
        packages
            .filter(|package| {
                package["id"]
                    .as_str()
                    .is_some_and(|id| resolved.contains(&id))
            })
            .filter_map(|package| {
                let name = package["name"].as_str()?;
                let said = self.about(name, package)?;
                Some(Finding::new("Cargo.lock", 0, format!("{name} {said}")))
            })
            .collect()
    }

    fn about(&self, name: &str, package: &Value) -> Option<String> {
        let licence = package["license"].as_str();
        match (licence, package["source"].as_str()) {
            _ if self.banned.iter().any(|banned| banned == name) => {
                Some("is banned by deny.toml".to_owned())
            }
            (_, Some(source)) if !source.starts_with("registry+") => {
                Some(format!("comes from {source}, not from a registry"))
            }
            (Some(licence), _) if self.allow(licence) => None,
            (Some(licence), _) => Some(format!(
                "has the licence {licence}, which deny.toml does not allow"
            )),
            (None, _) => Some("has no licence expression".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules() -> Rules {
        Rules::of("[licenses]\nallow = ['MIT', 'Apache-2.0']\n[bans]\ndeny = [{ crate = 'openssl' }, { name = 'old' }]\n")
            .unwrap()
    }

    #[test]
    fn an_expression_is_met_by_one_of_its_ways() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR X) AND Apache-2.0",
            "MIT AND Apache-2.0",
        ] {
            assert!(rules().allow(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "", "MIT WITH exception"] {
            assert!(!rules().allow(bad), "{bad}");
        }
    }

    #[test]
    fn what_may_not_ship_is_found() {
        let package = |name: &str, licence: Value, source: Value| json!({"id": name, "name": name, "license": licence, "source": source});
        let registry = || json!("registry+https://example.org/index");
        let names = [
            "ours", "good", "openssl", "old", "copyleft", "bare", "forked",
        ];
        let metadata = json!({
            "packages": [
                package("ours", json!("MIT"), Value::Null),
                package("good", json!("MIT"), registry()),
                package("openssl", json!("MIT"), registry()),
                package("old", json!("MIT"), registry()),
                package("copyleft", json!("GPL-3.0"), registry()),
                package("bare", Value::Null, registry()),
                package("forked", json!("MIT"), json!("git+https://example.org/x")),
                package("not-built", json!("GPL-3.0"), registry()),
            ],
            "resolve": {"nodes": names.map(|name| json!({"id": name}))}
        });
        let found = rules().broken(&metadata);
        let said: Vec<_> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            said,
            [
                "openssl is banned by deny.toml",
                "old is banned by deny.toml",
                "copyleft has the licence GPL-3.0, which deny.toml does not allow",
                "bare has no licence expression",
                "forked comes from git+https://example.org/x, not from a registry",
            ]
        );
    }
}
