//! The admin's part of nginx's configuration, out of nginx's own dump of it: what is there, and what must be
//! added so that nginx reads ours.
//!
//! Kept true: a command that is said here makes a file that nginx is seen to include; where there is no such
//! place, it is said into which file the line belongs.

use std::path::Path;

use super::process::Build;

/// How nginx is made to read its configuration again.
pub(super) const RELOAD: &str = "nginx -t && systemctl reload nginx";
/// Debian's package of what nginx needs for TCP.
const STREAM_MODULE: &str = "apt-get install libnginx-mod-stream";
/// nginx's own defaults.
const WORKER_CONNECTIONS: u64 = 512;

/// What nginx read, file by file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admin<'a> {
    dump: &'a str,
}

/// One directive, or the beginning of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Directive<'a> {
    file: &'a str,
    line: usize,
    /// How many blocks of its own file it is in.
    depth: usize,
    words: Vec<&'a str>,
}

/// A server that takes whatever no other one claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefaultServer<'a> {
    pub(super) file: &'a str,
    pub(super) line: usize,
    /// As `listen` says it.
    pub(super) at: &'a str,
}

impl<'a> Admin<'a> {
    pub(super) fn of(dump: &'a str) -> Self {
        Self { dump }
    }

    /// Whether a file would be read if it were there: a pattern that matches nothing yet counts.
    pub(super) fn includes(&self, file: &Path) -> bool {
        let stem = file.with_extension("").display().to_string();
        let fits = |pattern: &str| {
            pattern
                .strip_prefix(stem.as_str())
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let mut all = self.directives();
        all.any(|one| {
            one.file == file.to_string_lossy()
                || one.is("include") && one.words[1..].iter().any(|word| fits(word))
        })
    }

    /// What makes nginx read our `http.conf`.
    pub(super) fn mend_http(&self, file: &Path) -> String {
        let include = format!("include {};", pattern(file));
        match self.drop_ins("conf.d") {
            Some(folder) => format!("echo '{include}' > {folder}/cutover.conf"),
            None => format!("write `{include}` into the `http {{}}` of {}", self.main()),
        }
    }

    /// What makes nginx read our `stream.conf`.
    pub(super) fn mend_stream(&self, file: &Path, build: &Build) -> String {
        let include = format!("include {};", pattern(file));
        let block = format!("stream {{ {include} }}");
        let own = self
            .directives()
            .find(|one| one.depth == 0 && one.is("stream"));
        let add = match (own, self.drop_ins("modules-enabled")) {
            (Some(own), _) => format!(
                "write `{include}` into your own `stream {{}}` in {}:{}",
                own.file, own.line
            ),
            (None, Some(folder)) => {
                format!("printf '{block}\\n' > {folder}/99-cutover-stream.conf")
            }
            (None, None) => format!(
                "write `{block}` at the end of {}, beside its `http {{}}`",
                self.main()
            ),
        };
        if self.knows_stream(build) {
            add
        } else {
            format!("{STREAM_MODULE} && {add}")
        }
    }

    /// Whether `stream` is a word that this nginx knows.
    pub(super) fn knows_stream(&self, build: &Build) -> bool {
        let loaded = |one: &Directive<'_>| {
            one.is("load_module")
                && one.words[1..]
                    .iter()
                    .any(|word| word.ends_with("ngx_stream_module.so"))
        };
        build.stream || self.directives().any(|one| loaded(&one))
    }

    /// Everybody's default servers, but for those in files below `ours`.
    pub(super) fn default_servers(&self, ours: &Path) -> Vec<DefaultServer<'a>> {
        let found = self.directives().filter_map(|one| {
            let at = one.words.get(1).filter(|_| one.is("listen"))?;
            let rest = one.words.get(2..).unwrap_or_default();
            let default = rest
                .iter()
                .any(|word| matches!(*word, "default_server" | "default"));
            default.then_some(DefaultServer {
                file: one.file,
                line: one.line,
                at,
            })
        });
        found
            .filter(|one| !Path::new(one.file).starts_with(ours))
            .collect()
    }

    /// How many connections a worker takes.
    pub(super) fn worker_connections(&self) -> u64 {
        self.number("worker_connections")
            .unwrap_or(WORKER_CONNECTIONS)
    }

    fn number(&self, name: &str) -> Option<u64> {
        let one = self.directives().find(|one| one.is(name))?;
        one.words.get(1)?.parse().ok()
    }

    /// The file that nginx reads first.
    fn main(&self) -> &'a str {
        self.directives()
            .next()
            .map_or("nginx.conf", |one| one.file)
    }

    /// The folder of this name out of which every `*.conf` is read.
    fn drop_ins(&self, name: &str) -> Option<&'a str> {
        let end = format!("/{name}");
        let folder = |one: Directive<'a>| {
            let words = one.words.into_iter().skip(1);
            let mut folders = words.filter_map(|word| word.strip_suffix("/*.conf"));
            folders.find(|folder| folder.ends_with(&end) && Path::new(folder).is_absolute())
        };
        self.directives()
            .filter(|one| one.is("include"))
            .find_map(folder)
    }

    /// Every directive, in the order in which nginx read the files.
    fn directives(&self) -> impl Iterator<Item = Directive<'a>> {
        let (mut file, mut line, mut depth) = ("", 0, 0);
        let mut begun: Option<Directive<'a>> = None;
        self.dump.lines().flat_map(move |text| {
            if let Some(name) = text
                .strip_prefix("# configuration file ")
                .and_then(|rest| rest.strip_suffix(':'))
            {
                (file, line, depth, begun) = (name, 0, 0, None);
                return Vec::new();
            }
            line += 1;
            let mut done = Vec::new();
            for piece in pieces(text) {
                match piece {
                    ";" | "{" => {
                        done.extend(begun.take());
                        depth += usize::from(piece == "{");
                    }
                    "}" => depth = depth.saturating_sub(1),
                    word => begun
                        .get_or_insert_with(|| Directive {
                            file,
                            line,
                            depth,
                            words: Vec::new(),
                        })
                        .words
                        .push(word),
                }
            }
            done
        })
    }
}

impl Directive<'_> {
    fn is(&self, name: &str) -> bool {
        self.words.first() == Some(&name)
    }
}

/// What makes room for a service without a host name.
pub(super) fn mend_default(file: &str, line: usize) -> String {
    if file.ends_with("/sites-enabled/default") {
        format!("rm {file}")
    } else {
        format!("take `default_server` out of {file}:{line}")
    }
}

/// An include that matches nothing is no error, where a plain one is.
fn pattern(file: &Path) -> String {
    format!("{}.con[f]", file.with_extension("").display())
}

/// The words and marks of a line, without its comment. What stands between quotes is one word.
fn pieces(line: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => break,
            ';' | '{' | '}' => 1,
            '"' | '\'' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            // `${name}` and `\;` are part of a word.
            _ => word(rest),
        };
        pieces.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    pieces
}

fn word(rest: &str) -> usize {
    let mut before = ' ';
    let mut in_name = false;
    for (at, c) in rest.char_indices() {
        let ends = c.is_whitespace() || c == ';' || c == '{' || c == '}';
        let variable = c == '{' && before == '$' || c == '}' && in_name;
        if ends && !variable && before != '\\' {
            return at;
        }
        in_name = if variable { c == '{' } else { in_name };
        before = c;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "# configuration file /etc/nginx/nginx.conf:\nuser www-data;\n\
        include /etc/nginx/modules-enabled/*.conf;\nevents {\n\tworker_connections 768;\n\t# multi_accept on;\n}\n\
        http {\n\tinclude /etc/nginx/mime.types;\n\tinclude /etc/nginx/conf.d/*.conf;\n\tinclude /etc/nginx/sites-enabled/*;\n}\n\
        #mail {\n#\tserver { listen localhost:110; }\n#}\n\
        # configuration file /etc/nginx/sites-enabled/default:\nserver {\n\tlisten 80 default_server;\n\tlisten [::]:80 default_server;\n\
        \tlisten 81;\n}\n";
    const STREAM: &str = "# configuration file /etc/nginx/modules-enabled/50-mod-stream.conf:\nload_module modules/ngx_stream_module.so;\n";

    fn ours(name: &str) -> std::path::PathBuf {
        Path::new("/var/lib/cutover-agent/nginx").join(name)
    }

    fn build() -> Build {
        Build::parse("nginx version: nginx/1.22.1\nconfigure arguments: --with-stream=dynamic")
    }

    #[test]
    fn on_debian_each_mend_is_one_command() {
        let dump = format!("{DEBIAN}{STREAM}");
        let admin = Admin::of(&dump);
        assert_eq!(
            admin.mend_http(&ours("http.conf")),
            "echo 'include /var/lib/cutover-agent/nginx/http.con[f];' > /etc/nginx/conf.d/cutover.conf"
        );
        let add = r"printf 'stream { include /var/lib/cutover-agent/nginx/stream.con[f]; }\n' > /etc/nginx/modules-enabled/99-cutover-stream.conf";
        assert_eq!(admin.mend_stream(&ours("stream.conf"), &build()), add);
        // Without the module it comes first.
        let without = Admin::of(DEBIAN).mend_stream(&ours("stream.conf"), &build());
        assert_eq!(
            without,
            format!("apt-get install libnginx-mod-stream && {add}")
        );
    }

    #[test]
    fn an_own_stream_block_is_named_and_one_in_a_comment_is_none() {
        let own = format!(
            "{STREAM}# configuration file /etc/nginx/nginx.conf:\nevents {{}}\nstream {{ server {{ listen 1; }} }}\n"
        );
        let mend = Admin::of(&own).mend_stream(&ours("stream.conf"), &build());
        assert_eq!(
            mend,
            "write `include /var/lib/cutover-agent/nginx/stream.con[f];` into your own `stream {}` in /etc/nginx/nginx.conf:2"
        );
        let none = "# configuration file /usr/local/nginx/conf/nginx.conf:\nevents {}\n# stream { }\nload_module /x/ngx_stream_module.so;\n";
        let mend = Admin::of(none).mend_stream(&ours("stream.conf"), &build());
        assert!(
            mend.ends_with(
                "` at the end of /usr/local/nginx/conf/nginx.conf, beside its `http {}`"
            ),
            "{mend}"
        );
    }

    #[test]
    fn an_include_counts_before_its_file_is_there() {
        let http = ours("http.conf");
        let including = "# configuration file /a:\nhttp { include /var/lib/cutover-agent/nginx/http.con[f]; }\n";
        assert!(Admin::of(including).includes(&http));
        assert!(!Admin::of(including).includes(&ours("stream.conf")));
        assert!(!Admin::of(&including.replace("include", "# include")).includes(&http));
        let read = "# configuration file /var/lib/cutover-agent/nginx/http.conf:\nmap $a $b { default 1; }\n";
        assert!(Admin::of(read).includes(&http));
    }

    #[test]
    fn default_servers_of_others_are_found_with_file_line_and_address() {
        let dump = format!(
            "{DEBIAN}# configuration file /s/nginx/v-1/http.conf:\nserver {{ listen 82 default_server; }}\n# configuration file /b:\nserver {{ listen 83 default; }}\n"
        );
        let found = Admin::of(&dump).default_servers(Path::new("/s/nginx"));
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.file, one.line, one.at))
            .collect();
        let default = "/etc/nginx/sites-enabled/default";
        assert_eq!(
            found,
            [(default, 2, "80"), (default, 3, "[::]:80"), ("/b", 1, "83")]
        );
        assert_eq!(
            mend_default(default, 2),
            "rm /etc/nginx/sites-enabled/default"
        );
        assert_eq!(mend_default("/b", 1), "take `default_server` out of /b:1");
    }

    #[test]
    fn numbers_are_read_outside_of_comments() {
        assert_eq!(Admin::of(DEBIAN).worker_connections(), 768);
        let none = "# configuration file /a:\nevents { # worker_connections 9;\n}\n";
        assert_eq!(Admin::of(none).worker_connections(), 512);
    }

    #[test]
    fn quotes_variables_and_escapes_do_not_end_a_directive() {
        let text = r#"log_format a '{ "x": "$y"; }'; return 200 ${a}b; rewrite ^/\{x\;$ /; map "a;b" $c {"#;
        let words: Vec<usize> = {
            let text = format!("# configuration file /a:\n{text}\n");
            Admin::of(&text)
                .directives()
                .map(|one| one.words.len())
                .collect()
        };
        assert_eq!(words, [3, 3, 3, 3]);
    }
}
