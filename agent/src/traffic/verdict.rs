//! What nginx's test means for us.
//!
//! nginx accepts a server name that two servers claim, with a warning that
//! names neither file; one of them then gets nothing. And it refuses
//! everything for one wrong character in any file, ours or not.

use std::collections::BTreeMap;
use std::path::Path;

use super::admin::Admin;
use super::conf::Conf;
use super::plan::Plan;
use super::process::{Build, Test};
use super::{Error, Paths};

/// Accepts what nginx accepted without a warning about a name of ours; returns the other warnings.
pub(super) fn judge(
    test: &Test,
    conf: &Conf<'_>,
    plan: &Plan<'_>,
    paths: &Paths,
    build: &Build,
) -> Result<Vec<String>, Error> {
    if !test.accepted {
        let message = first_error(&test.messages);
        return Err(match place(&message) {
            _ if message.contains("duplicate default server") => default_taken(&message, conf),
            _ if message.contains("unknown directive \"stream\"") => Error::NoStream,
            Some(file) if !conf.owns(file) => Error::Foreign { message },
            Some(_) | None => Error::Refused { message },
        });
    }
    let mut warnings = Vec::new();
    for message in messages(&test.messages, "[warn] ") {
        match conflicting(message) {
            Some((name, address)) => match name_taken(name, address, test, conf, plan) {
                Some(error) => return Err(error),
                None => warnings.push(message.to_owned()),
            },
            None => warnings.push(message.to_owned()),
        }
    }
    let admin = Admin::of(&test.dump);
    let (http, stream) = (paths.conf.join("http.conf"), paths.conf.join("stream.conf"));
    if !plan.servers.is_empty() && !test.reads(&http) {
        let mend = admin.mend_http(&http);
        return Err(Error::NotIncluded { file: http, mend });
    }
    if !plan.streams.is_empty() && !test.reads(&stream) {
        let mend = admin.mend_stream(&stream, build);
        return Err(Error::NotIncluded { file: stream, mend });
    }
    for keyed in plan.sites.iter().filter(|keyed| keyed.site.include_only) {
        let file = paths
            .conf
            .join(format!("sites/{}.server.conf", keyed.site.service));
        let http = keyed
            .site
            .listeners
            .iter()
            .any(|listener| listener.protocol != cutover_core::spec::Protocol::Tcp);
        if http && !test.reads(&file) {
            let mend = format!(
                "write `include {};` into your own `server {{}}`",
                file.display()
            );
            return Err(Error::NotIncluded { file, mend });
        }
    }
    Ok(warnings)
}

/// The first error of nginx's words, else all of them.
pub(super) fn first_error(words: &str) -> String {
    messages(words, "[emerg] ")
        .next()
        .map_or_else(|| words.trim().to_owned(), str::to_owned)
}

fn messages<'a>(words: &'a str, level: &'static str) -> impl Iterator<Item = &'a str> {
    words
        .lines()
        .filter_map(move |line| line.split_once(level).map(|(_, message)| message.trim()))
}

/// The file of `… in FILE:LINE`.
fn place(message: &str) -> Option<&str> {
    let (_, place) = message.rsplit_once(" in ")?;
    let (file, line) = place.rsplit_once(':')?;
    line.trim_end_matches('.')
        .chars()
        .all(|c| c.is_ascii_digit())
        .then_some(file)
}

/// `conflicting server name "NAME" on ADDRESS, ignored`
fn conflicting(message: &str) -> Option<(&str, &str)> {
    let rest = message.strip_prefix("conflicting server name \"")?;
    let (name, rest) = rest.split_once("\" on ")?;
    Some((name, rest.trim_end_matches(", ignored")))
}

fn name_taken(
    name: &str,
    address: &str,
    test: &Test,
    conf: &Conf<'_>,
    plan: &Plan<'_>,
) -> Option<Error> {
    let wanted = plan
        .servers
        .values()
        .flatten()
        .find(|(host, _)| host.unwrap_or("_") == name);
    let (_, ways) = wanted?;
    let port: Option<u16> = address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let ours = ways
        .iter()
        .find(|way| port.is_none_or(|port| way.listener.listen == port))?;
    let theirs = claims(&test.dump, name)
        .into_iter()
        .find(|(file, _)| !conf.owns(file));
    Some(Error::NameTaken {
        name: name.to_owned(),
        address: address.to_owned(),
        ours: format!("the service {}", ours.site.service),
        theirs: theirs.map_or_else(
            || "another server".to_owned(),
            |(file, line)| format!("{file}:{line}"),
        ),
    })
}

/// Two catch-alls for one address. nginx names the one that it read last, which may be ours.
fn default_taken(message: &str, conf: &Conf<'_>) -> Error {
    let address = message
        .split_once("duplicate default server for ")
        .and_then(|(_, rest)| rest.split_once(" in "))
        .map_or_else(
            || "its address".to_owned(),
            |(address, _)| address.to_owned(),
        );
    let line = message
        .rsplit_once(':')
        .and_then(|(_, line)| line.trim_end_matches('.').parse().ok());
    let theirs = place(message)
        .filter(|file| !conf.owns(file))
        .map(str::to_owned)
        .zip(line);
    Error::DefaultTaken { address, theirs }
}

/// Who is the default server of this address, in a dump without ours.
pub(super) fn default_server(dump: &str, address: &str, ours: &Path) -> Option<(String, usize)> {
    let whole = |at: &str| match at.rsplit_once(':') {
        Some(("*", port)) => format!("0.0.0.0:{port}"),
        Some(_) => at.to_owned(),
        None if at.parse::<u16>().is_ok() => format!("0.0.0.0:{at}"),
        None => format!("{at}:80"),
    };
    let all = Admin::of(dump).default_servers(ours);
    let found = all.into_iter().find(|one| whole(one.at) == address)?;
    Some((found.file.to_owned(), found.line))
}

/// Where `server_name` claims a name, from nginx's dump of all it read.
fn claims(dump: &str, name: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut file, mut within) = ("", false);
    for text in dump.lines() {
        if let Some(next) = text
            .strip_prefix("# configuration file ")
            .and_then(|rest| rest.strip_suffix(':'))
        {
            (file, within) = (next, false);
            continue;
        }
        let line = lines.entry(file).or_default();
        *line += 1;
        let code = text.split('#').next().unwrap_or_default();
        for word in code
            .split([' ', '\t', '{', '}'])
            .flat_map(|word| word.split_inclusive(';'))
            .filter(|word| !word.is_empty())
        {
            let bare = word.trim_end_matches(';').trim_matches(['"', '\'']);
            if within && bare.eq_ignore_ascii_case(name) {
                found.push((file.to_owned(), *line));
            }
            within = (within || bare == "server_name") && !word.ends_with(';');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_error_is_its_file() {
        assert_eq!(
            place("unknown directive \"x\" in /etc/nginx/sites-enabled/y:3"),
            Some("/etc/nginx/sites-enabled/y")
        );
        assert_eq!(
            place("bind() to 0.0.0.0:80 failed (98: Address already in use)"),
            None
        );
    }

    #[test]
    fn a_name_is_found_where_it_is_claimed_and_nowhere_else() {
        let dump = "# configuration file /a:\nserver {\n  server_name x.example\n    shop.example; # shop.example\n}\n\
                    # configuration file /b:\n# server_name shop.example;\nserver { listen 80; server_name \"shop.example\"; }\n";
        assert_eq!(
            claims(dump, "shop.example"),
            [("/a".to_owned(), 3), ("/b".to_owned(), 2)]
        );
    }

    #[test]
    fn a_conflict_gives_name_and_address() {
        assert_eq!(
            conflicting("conflicting server name \"a.b\" on 127.0.0.1:80, ignored"),
            Some(("a.b", "127.0.0.1:80"))
        );
    }
}
