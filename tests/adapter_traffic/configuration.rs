//! What a change of nginx's configuration must keep true.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use cutover_agent::traffic::{Error, Site};
use cutover_core::Slot;
use cutover_core::spec::{Listener, Protocol};
use cutover_tests::wait::until;

use crate::bed::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_sites_again_reload_nothing_and_other_ones_reload_once() {
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    let sites = [site.clone(), bed.site("shop/other")];
    let sites = [
        sites[0].clone(),
        Site {
            listeners: vec![http(81, None, "/")],
            ..sites[1].clone()
        },
    ];
    assert!(bed.traffic.ensure(&sites[..1]).await.unwrap().reloaded);
    let workers = bed.nginx.workers();
    assert!(!bed.traffic.ensure(&sites[..1]).await.unwrap().reloaded);
    assert_eq!(bed.nginx.workers(), workers);
    let ensured = bed.traffic.ensure(&sites).await.unwrap();
    assert!(
        ensured.reloaded && ensured.leaving.is_empty() && ensured.unproved.is_empty(),
        "{ensured:?}"
    );
    assert!(
        !bed.nginx.workers().iter().any(|pid| workers.contains(pid)),
        "the old workers are gone when it returns"
    );
    let text = fs::read_to_string(bed.paths.conf.join("http.conf")).unwrap();
    assert!(
        text.starts_with("# Written by cutover-agent") && text.contains("Edits are lost"),
        "{text}"
    );
    // An edit of the generated file is undone.
    fs::write(bed.paths.conf.join("http.conf"), "# edited\n").unwrap();
    assert!(bed.traffic.ensure(&sites).await.unwrap().reloaded);
    assert_eq!(
        fs::read_to_string(bed.paths.conf.join("http.conf")).unwrap(),
        text
    );
    let alive = bed.traffic.alive().await.unwrap();
    assert!(
        alive.http_included && alive.stream_included && alive.stream && alive.configuration.is_ok(),
        "{alive:?}"
    );
    assert_eq!(
        (
            alive.workers.len(),
            alive.leaving.len(),
            alive.orphans.len()
        ),
        (2, 0, 0)
    );
}

// Hundreds of files a site: a host with many services would not hear of a death meanwhile.
#[tokio::test(flavor = "current_thread")]
async fn p1_the_loop_goes_on_while_the_routes_of_many_sites_are_prepared() {
    const SITES: usize = 20;
    let bed = Bed::new().await;
    let name = |n: usize| format!("s{n:02}");
    let site = |n: usize| Site {
        listeners: vec![http(80, Some(&name(n)), "/")],
        ..bed.site(&format!("shop/{}", name(n)))
    };
    let sites: Vec<Site> = (0..SITES).map(site).collect();
    let made = |n: usize| {
        let link = bed.paths.routes.join("shop").join(name(n)).join("current");
        fs::symlink_metadata(link).is_ok()
    };
    let mut looks = 0;
    let looking = async {
        loop {
            looks += usize::from(made(0) && !made(SITES - 1));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ensured = bed.traffic.ensure(&sites) => assert!(ensured.unwrap().reloaded),
        () = looking => {}
    }
    assert!(made(SITES - 1));
    assert!(
        looks > 0,
        "nobody could look between the first site and the last"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_request_of_an_old_worker_is_finished_and_its_worker_reported() {
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let load = bed
        .load()
        .slow(4.0, Duration::from_secs(13))
        .most(4)
        .start();
    until(SOON, "slow requests to be under way", async || {
        load.so_far().sent_in_all() == 4
    })
    .await;
    let other = Site {
        listeners: vec![http(81, None, "/")],
        ..bed.site("shop/other")
    };
    let ensured = bed.traffic.ensure(&[site, other]).await.unwrap();
    assert!(
        ensured.reloaded && !ensured.leaving.is_empty(),
        "{ensured:?}"
    );
    assert_eq!(bed.traffic.alive().await.unwrap().leaving, ensured.leaving);
    load.stop().await.assert_nothing_failed();
}

#[tokio::test(flavor = "multi_thread")]
async fn services_share_a_server_by_path_and_a_prefix_ends_at_a_slash() {
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let listen = |path: &str| vec![http(80, Some("shop.example"), path)];
    let web = Site {
        listeners: listen("/"),
        ..bed.site("shop/web")
    };
    let api = Site {
        listeners: listen("/api"),
        ..bed.site("shop/api")
    };
    bed.serve(&[web.clone(), api.clone()]).await;
    bed.switch(&api, GREEN).await;
    for (path, version) in [
        ("/", "blue"),
        ("/apis", "blue"),
        ("/api", "green"),
        ("/api/x?y=%20z", "green"),
    ] {
        let answer = bed.get("shop.example", path).await.to_lowercase();
        assert!(
            answer.contains(&format!("x-version: {version}")),
            "{path}: {answer}"
        );
    }
    let answer = bed.get("shop.example", "/api/x%2Fy//z").await;
    assert!(
        answer.contains("no /api/x%2Fy//z here"),
        "the path is passed as it came: {answer}"
    );
    let twice = Site {
        listeners: listen("/api"),
        ..bed.site("shop/third")
    };
    let error = bed
        .traffic
        .ensure(&[web, api, twice])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("shop/third") && error.contains("shop/api"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_name_that_the_admin_uses_is_an_error_that_names_both() {
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let good = Site {
        listeners: vec![http(80, Some("good.example"), "/")],
        ..bed.site("shop/good")
    };
    bed.serve(std::slice::from_ref(&good)).await;
    let listen = bed.address();
    for first in ["aaa.conf", "zzz.conf"] {
        bed.nginx.write_http(
            first,
            &format!(
                "server {{\n  listen {listen};\n  server_name a.example\n    shop.example;\n}}\n"
            ),
        );
        let site = Site {
            listeners: vec![http(80, Some("shop.example"), "/")],
            ..bed.site("shop/web")
        };
        let error = bed.traffic.ensure(&[good.clone(), site]).await.unwrap_err();
        assert!(matches!(error, Error::NameTaken { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("shop/web") && text.contains(&format!("{first}:4")),
            "{text}"
        );
        assert!(
            !bed.traffic
                .ensure(std::slice::from_ref(&good))
                .await
                .unwrap()
                .reloaded,
            "the old configuration is still there"
        );
        fs::remove_file(bed.nginx.prefix().join("http.d").join(first)).unwrap();
    }
    bed.nginx.write_http(
        "aaa.conf",
        &format!("server {{ listen {listen} default_server; }}\n"),
    );
    let error = bed
        .traffic
        .ensure(&[good, bed.site("shop/any")])
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("default_server"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syntax_error_of_the_admins_is_told_as_theirs_and_switches_go_on() {
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    bed.nginx
        .write_http("admin.conf", "server {\n  lissten 80;\n}\n");
    let other = Site {
        listeners: vec![http(81, None, "/")],
        ..bed.site("shop/other")
    };
    let error = bed
        .traffic
        .ensure(&[site.clone(), other])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Foreign { message } if message.contains("lissten") && message.contains("admin.conf:2")),
        "{error:?}"
    );
    bed.switch(&site, GREEN).await;
    assert!(bed.get("any.example", "/").await.contains("version green"));
    let ensured = bed
        .traffic
        .ensure(std::slice::from_ref(&site))
        .await
        .unwrap();
    assert!(
        !ensured.reloaded && ensured.unproved.is_empty(),
        "{ensured:?}"
    );
    assert!(bed.traffic.alive().await.unwrap().configuration.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_another_program_holds_is_told_and_the_old_configuration_stays() {
    let mut bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let held = TcpListener::bind((bed.loopback.address(1), 82)).unwrap();
    let other = Site {
        listeners: vec![http(82, None, "/")],
        ..bed.site("shop/other")
    };
    let error = bed
        .traffic
        .ensure(&[site.clone(), other.clone()])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::PortTaken { address, holder }
            if address.ends_with(":82") && holder.contains(&std::process::id().to_string())),
        "{error:?}"
    );
    assert!(
        !bed.traffic
            .ensure(std::slice::from_ref(&site))
            .await
            .unwrap()
            .reloaded
    );
    bed.nginx.kill_all().await;
    bed.nginx.start_again();
    bed.nginx.wait_until_it_serves().await;
    bed.traffic.prove(&site, BLUE).await.unwrap();
    drop(held);
    assert!(
        bed.traffic
            .ensure(&[site, other])
            .await
            .unwrap()
            .unproved
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_an_agent_killed_while_it_tries_a_configuration_leaves_one_that_nginx_starts_with() {
    let mut bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    // As it is in the middle of a trial of something that nginx can't read.
    let conf = &bed.paths.conf;
    let live = fs::read_link(conf.join("live")).unwrap();
    fs::create_dir(conf.join("v-bad")).unwrap();
    write(conf.join("v-bad/http.conf"), "broken");
    std::os::unix::fs::symlink(&live, conf.join("untested")).unwrap();
    fs::remove_file(conf.join("live")).unwrap();
    std::os::unix::fs::symlink("v-bad", conf.join("live")).unwrap();
    assert!(!bed.nginx.test().status.success());
    // The drop-in's line, before nginx starts.
    let text = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../systemd/nginx.service.d/cutover.conf"
    ))
    .unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStartPre=-/bin/sh -c '"))
        .unwrap()
        .trim_end_matches('\'');
    let line = line.replace("/var/lib/cutover-agent/nginx", &conf.display().to_string());
    assert!(
        std::process::Command::new("/bin/sh")
            .args(["-c", &line])
            .status()
            .unwrap()
            .success()
    );
    bed.nginx.kill_all().await;
    bed.nginx.start_again();
    bed.nginx.wait_until_it_serves().await;
    bed.traffic.prove(&site, BLUE).await.unwrap();
    assert!(
        !bed.traffic
            .ensure(std::slice::from_ref(&site))
            .await
            .unwrap()
            .reloaded
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_master_killed_alone_leaves_workers_that_serve_and_switch_and_nothing_reloads() {
    let mut bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let workers = bed.nginx.workers().len();
    bed.nginx.kill_master().await;
    let alive = bed.traffic.alive().await.unwrap();
    assert!(
        alive.master.is_none() && alive.workers.is_empty() && alive.orphans.len() >= workers,
        "{alive:?}"
    );
    bed.switch(&site, GREEN).await;
    assert!(bed.get("any.example", "/").await.contains("version green"));
    let ensured = bed
        .traffic
        .ensure(std::slice::from_ref(&site))
        .await
        .unwrap();
    assert!(
        !ensured.reloaded && ensured.unproved.is_empty(),
        "{ensured:?}"
    );
    let other = Site {
        listeners: vec![http(81, None, "/")],
        ..bed.site("shop/other")
    };
    let error = bed
        .traffic
        .ensure(&[site.clone(), other])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::MasterGone { .. }), "{error:?}");
    bed.nginx.kill_all().await;
    let unproved = bed
        .traffic
        .prove(&site, GREEN)
        .await
        .unwrap_err()
        .to_string();
    assert!(unproved.contains("is nginx running?"), "{unproved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_of_the_admins_own_includes_two_files_and_is_switched_like_any() {
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = Site {
        listeners: vec![http(80, Some("own.example"), "/app")],
        include_only: true,
        ..bed.site("shop/web")
    };
    // Before the admin includes it, it is said where.
    let error = bed
        .traffic
        .ensure(std::slice::from_ref(&site))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::NotIncluded { file, .. } if file.ends_with("sites/shop/web.server.conf")),
        "{error:?}"
    );
    let sites = bed.paths.conf.join("sites").display().to_string();
    bed.nginx.write_http(
        "own.conf",
        &format!(
            "server {{\n  listen {};\n  server_name own.example;\n  include {sites}/shop/web.server.con[f];\n  \
             location / {{ return 200 mine; }}\n  location /app {{ include {sites}/shop/web.8080.location.con[f]; }}\n}}\n",
            bed.address()
        ),
    );
    bed.serve(std::slice::from_ref(&site)).await;
    for (route, version) in [(GREEN, "green"), (BLUE_WARM, "blue")] {
        bed.switch(&site, route).await;
        let answer = bed.get("own.example", "/app").await.to_lowercase();
        assert!(
            answer.contains(&format!("x-version: {version}")),
            "{answer}"
        );
    }
    assert!(bed.get("own.example", "/other").await.ends_with("mine"));
    let counts = bed
        .counts(|counts| counts.slots[&(site.service.clone(), Slot::Green)].requests == 1)
        .await;
    assert_eq!(counts.slots[&(site.service, Slot::Blue)].requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_has_a_listener_of_its_own_and_is_proved_over_http2() {
    let bed = Bed::new().await;
    let grpc = |port| Listener {
        protocol: Protocol::Grpc,
        ..http(port, Some("grpc.example"), "/")
    };
    let site = Site {
        listeners: vec![grpc(90)],
        ..bed.site("shop/grpc")
    };
    bed.serve(std::slice::from_ref(&site)).await;
    bed.switch(&site, GREEN_WARM).await;
    assert!(bed.traffic.prove(&site, BLUE).await.is_err());
    let version = bed.traffic.alive().await.unwrap().version;
    let old = ["1.18", "1.20", "1.22", "1.24"]
        .iter()
        .any(|old| version.starts_with(old));
    let mixed = Site {
        listeners: vec![http(90, Some("web.example"), "/")],
        ..bed.site("shop/web")
    };
    let result = bed.traffic.ensure(&[site, mixed]).await;
    assert_eq!(
        old,
        matches!(&result, Err(Error::Site { why, .. }) if why.contains("1.25.1")),
        "{result:?}"
    );
}
