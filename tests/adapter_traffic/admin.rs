//! What an admin has to add or take away: the command that an error names mends it, on a real nginx laid out as
//! Debian's.

use std::fs;
use std::process::Command;

use cutover_agent::traffic::{Error, Site};

use crate::bed::*;

/// The command of an error's `…: COMMAND; then deploy again`, done.
fn do_as_said(error: &Error, before: &str) {
    let text = error.to_string();
    println!("{text}");
    let command = text
        .split_once(before)
        .and_then(|(_, rest)| rest.rsplit_once("then deploy again"))
        .map(|(command, _)| command.trim_end_matches([' ', ';', ',']));
    let command = command.unwrap_or_else(|| panic!("no command in: {text}"));
    let done = Command::new("sh").args(["-c", command]).status();
    assert!(done.is_ok_and(|status| status.success()), "{command}");
}

/// nginx's main file, changed; folders as Debian has them.
fn rewrite(bed: &Bed, change: impl Fn(String) -> String) {
    for folder in ["modules-enabled", "conf.d", "sites-enabled"] {
        fs::create_dir_all(bed.nginx.prefix().join(folder)).unwrap();
    }
    let conf = bed.nginx.conf();
    write(&conf, &change(fs::read_to_string(&conf).unwrap()));
}

fn folder(bed: &Bed, name: &str) -> String {
    bed.nginx.prefix().join(name).display().to_string()
}

fn over_tcp(bed: &Bed) -> Site {
    Site {
        listeners: vec![tcp(5432)],
        ..bed.site("shop/db")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_for_a_missing_stream_include_is_exact_where_debian_has_a_place_for_it() {
    let bed = Bed::new().await;
    let modules = folder(&bed, "modules-enabled");
    rewrite(&bed, |text| {
        let (head, _) = text.split_once("stream {\n").unwrap();
        format!("{head}include {modules}/*.conf;\n")
    });
    let site = over_tcp(&bed);
    let sites = std::slice::from_ref(&site);
    bed.know(sites).await;
    let error = bed.traffic.ensure(sites).await.unwrap_err();
    let exact = format!(
        "printf 'stream {{ include {}/stream.con[f]; }}\\n' > {modules}/99-cutover-stream.conf",
        bed.paths.conf.display()
    );
    assert!(error.to_string().contains(&exact), "{error}");
    do_as_said(&error, "on this host: ");
    let ensured = bed.traffic.ensure(sites).await.unwrap();
    assert!(
        ensured.reloaded && ensured.unproved.is_empty(),
        "{ensured:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_stream_block_is_named_and_a_module_that_is_not_loaded_comes_first() {
    let bed = Bed::new().await;
    fs::remove_file(bed.nginx.prefix().join("stream.d/cutover.conf")).unwrap();
    let site = over_tcp(&bed);
    let sites = std::slice::from_ref(&site);
    bed.know(sites).await;
    let own = bed.traffic.ensure(sites).await.unwrap_err().to_string();
    let block = format!("your own `stream {{}}` in {}:", bed.nginx.conf().display());
    assert!(own.contains(&block) && !own.contains("apt-get"), "{own}");

    let all = fs::read_to_string(bed.nginx.conf()).unwrap();
    if !all.contains("load_module") {
        return; // Built in: it can't be missing.
    }
    rewrite(&bed, |text| {
        let (head, _) = text.split_once("stream {\n").unwrap();
        let lines = head.lines().filter(|line| !line.starts_with("load_module"));
        lines.map(|line| format!("{line}\n")).collect()
    });
    let none = bed.traffic.ensure(sites).await.unwrap_err().to_string();
    assert!(
        none.contains("apt-get install libnginx-mod-stream && write"),
        "{none}"
    );
    rewrite(&bed, |text| format!("{text}stream {{}}\n"));
    let unknown = bed.traffic.ensure(sites).await.unwrap_err();
    assert!(matches!(unknown, Error::NoStream), "{unknown:?}");
    assert!(
        unknown
            .to_string()
            .contains("apt-get install libnginx-mod-stream")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_for_a_missing_http_include_is_exact_where_debian_has_a_place_for_it() {
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let drop_ins = folder(&bed, "conf.d");
    fs::remove_file(bed.nginx.prefix().join("http.d/cutover.conf")).unwrap();
    rewrite(&bed, |text| {
        text.replace(
            "http {\n",
            &format!("http {{\n  include {drop_ins}/*.conf;\n"),
        )
    });
    let site = bed.site("shop/web");
    let error = bed
        .traffic
        .ensure(std::slice::from_ref(&site))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("> {drop_ins}/cutover.conf")),
        "{error}"
    );
    do_as_said(&error, "on this host: ");
    bed.serve(std::slice::from_ref(&site)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_default_site_is_named_with_the_command_that_makes_room_whichever_is_read_first() {
    for includes in [
        ["sites-enabled/*", "http.d/*.conf"],
        ["http.d/*.conf", "sites-enabled/*"],
    ] {
        let bed = Bed::new().await;
        let _apps = bed.both().await;
        let [first, second] = includes.map(|name| folder(&bed, name));
        let http_d = folder(&bed, "http.d/*.conf");
        rewrite(&bed, |text| {
            text.replace(
                &format!("include {http_d};"),
                &format!("include {first};\n  include {second};"),
            )
        });
        let default = folder(&bed, "sites-enabled/default");
        let listen = bed.address();
        let text = format!(
            "server {{\n\tlisten {listen} default_server;\n\tserver_name _;\n\treturn 200 default;\n}}\n"
        );
        write(&default, &text);
        let site = bed.site("shop/web");
        let error = bed
            .traffic
            .ensure(std::slice::from_ref(&site))
            .await
            .unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::DefaultTaken { .. }), "{said}");
        assert!(said.contains(&format!("{default}:2")), "{said}");
        assert!(said.contains(&listen.to_string()), "{said}");
        do_as_said(&error, "is already; ");
        bed.serve(std::slice::from_ref(&site)).await;
    }
}
