//! What a switch must keep true.

use std::time::Duration;

use cutover_agent::signals::Signals;
use cutover_agent::traffic::Traffic;
use cutover_core::{Route, Slot};
use cutover_tests::load::FailureKind;
use cutover_tests::reaper::at_the_end;
use cutover_tests::root_or_skip;
use cutover_tests::wait::until;

use crate::bed::*;

#[tokio::test(flavor = "multi_thread")]
async fn p11_twenty_switches_under_500_mixed_requests_a_second_lose_none_and_nginx_counts_what_the_clients_count()
 {
    if !root_or_skip("twenty switches") {
        return;
    }
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let before = bed.nginx.requests().await;

    let load = bed.load();
    let load = load
        .keep_alive(32, 400.0)
        .one_shot(80.0)
        .slow(5.0, Duration::from_secs(5));
    let load = load
        .uploads(5.0, 1_000_000, Duration::from_millis(700))
        .downloads(5.0, 20, Duration::from_millis(50))
        .websockets(5)
        .start();
    let mut proofs = 0;
    for turn in 0..20 {
        let answered = load.so_far().answered_in_all();
        until(SOON, "150 more answers", async || {
            load.so_far().answered_in_all() > answered + 150
        })
        .await;
        bed.switch(&site, if turn % 2 == 0 { GREEN_WARM } else { BLUE_WARM })
            .await;
        proofs += 1;
    }
    let answered = load.so_far().answered_in_all();
    until(SOON, "150 more answers", async || {
        load.so_far().answered_in_all() > answered + 150
    })
    .await;
    let tally = load.stop().await;
    eprintln!("{tally}");
    tally.assert_nothing_failed();
    assert!(
        tally.answered_by("blue") > 300 && tally.answered_by("green") > 300,
        "{tally}"
    );

    let all = |counts: &cutover_agent::signals::Counts| {
        counts
            .slots
            .values()
            .map(|tally| tally.requests)
            .sum::<u64>()
    };
    let sent = tally.sent_in_all();
    let counts = bed.counts(|counts| all(counts) >= sent).await;
    assert_eq!(
        all(&counts),
        sent,
        "the signals count what the clients count"
    );
    assert_eq!(
        bed.nginx.requests().await - before,
        sent + proofs,
        "so does nginx"
    );
    let lost: u64 = counts
        .slots
        .values()
        .map(|tally| tally.lost + tally.passed_on)
        .sum();
    assert_eq!(
        (lost, counts.garbled, counts.unreadable[&site.service]),
        (0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_5_25_and_50_percent_come_out_as_chance_allows() {
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    for percent in [5, 25, 50] {
        bed.switch(&site, split(Slot::Green, percent)).await;
        let requests = 2_500;
        let load = bed.load().keep_alive(16, 600.0).most(requests).start();
        until(SOON * 6, "all answers", async || {
            load.so_far().answered_in_all() >= requests
        })
        .await;
        let tally = load.stop().await;
        tally.assert_nothing_failed();
        let (share, all) = (f64::from(percent) / 100.0, tally.answered_in_all() as f64);
        let (expected, deviation) = (all * share, (all * share * (1.0 - share)).sqrt());
        let green = tally.answered_by("green") as f64;
        eprintln!("{percent} %: {green} of {all}");
        // Five deviations: once in two million runs.
        assert!(
            (green - expected).abs() < 5.0 * deviation,
            "{percent} %: {green} of {all}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_proved_and_a_wrong_one_is_not() {
    let bed = Bed::new().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    for route in [
        Route::Nobody,
        BLUE,
        GREEN,
        BLUE_WARM,
        GREEN_WARM,
        split(Slot::Green, 1),
        split(Slot::Blue, 99),
    ] {
        bed.switch(&site, route).await;
        assert_eq!(bed.traffic.current(&site.service).unwrap(), Some(route));
    }
    bed.switch(&site, GREEN).await;
    for wrong in [BLUE, GREEN_WARM, Route::Nobody] {
        let unproved = bed
            .traffic
            .prove(&site, wrong)
            .await
            .unwrap_err()
            .to_string();
        assert!(unproved.contains("went to `green`"), "{unproved}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_reaches_the_old_slot_although_the_admin_caches_open_files() {
    let bed = Bed::with("open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s; open_file_cache_errors on;").await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    for turn in 0..6 {
        let (route, version) = if turn % 2 == 0 {
            (GREEN, "version green")
        } else {
            (BLUE, "version blue")
        };
        bed.traffic.switch(&site.service, route).unwrap();
        for _ in 0..50 {
            let answer = bed.get("any.example", "/").await;
            assert!(answer.contains(version), "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_nginx_may_not_read_is_503_an_alarm_and_a_proof_that_names_the_directory() {
    use std::os::unix::fs::PermissionsExt;
    if !root_or_skip("an unreadable route") {
        return;
    }
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let closed = bed.paths.routes.join("shop");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let answer = bed.get("any.example", "/").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let unproved = bed
        .traffic
        .prove(&site, BLUE)
        .await
        .unwrap_err()
        .to_string();
    eprintln!("{unproved}");
    assert!(
        unproved.contains(&format!("may not enter {};", closed.display()))
            && unproved.contains("www-data"),
        "{unproved}"
    );
    let counts = bed
        .counts(|counts| counts.unreadable[&site.service] > 0)
        .await;
    assert_eq!(counts.nobody[&site.service], 0);

    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
    bed.traffic.prove(&site, BLUE).await.unwrap();
    bed.switch(&site, Route::Nobody).await;
    assert!(
        bed.get("any.example", "/")
            .await
            .starts_with("HTTP/1.1 503")
    );
    bed.counts(|counts| counts.nobody[&site.service] > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_flagged_out_gets_nothing_and_nothing_fails() {
    let bed = Bed::new().await;
    let site = bed.site("shop/web");
    let site = cutover_agent::traffic::Site {
        blue: vec![bed.replica(Slot::Blue, 0), bed.replica(Slot::Blue, 1)],
        ..site
    };
    let _apps = [
        bed.app(Slot::Blue, 0, &[]).await,
        bed.app(Slot::Blue, 1, &[]).await,
        bed.app(Slot::Green, 0, &[]).await,
    ];
    bed.serve(std::slice::from_ref(&site)).await;
    let who = async || {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let answer = bed.get("any.example", "/").await;
            seen.insert(answer.lines().last().unwrap_or_default().to_owned());
        }
        seen.into_iter().collect::<Vec<_>>().join(", ")
    };
    for route in [BLUE, BLUE_WARM] {
        bed.switch(&site, route).await;
        assert_eq!(
            who().await,
            "version blue replica 0, version blue replica 1"
        );
        bed.traffic
            .set_out(&site.service, Slot::Blue, Some(0))
            .unwrap();
        assert_eq!(who().await, "version blue replica 1");
        bed.traffic
            .set_out(&site.service, Slot::Blue, Some(1))
            .unwrap();
        assert_eq!(who().await, "version blue replica 0");
        bed.traffic.prove(&site, route).await.unwrap();
        bed.traffic
            .set_out(&site.service, Slot::Blue, None)
            .unwrap();
    }
    assert!(
        bed.traffic
            .set_out(&site.service, Slot::Blue, Some(2))
            .is_err(),
        "there is no third replica"
    );
    assert!(
        bed.traffic
            .set_out(&site.service, Slot::Green, Some(0))
            .is_err(),
        "a sole replica can't be left out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_learns_who_asked_and_nobody_can_lie_about_it() {
    let bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let lies = "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n";
    let seen = get(bed.address(), "shop.example:80", "/headers", lies)
        .await
        .to_lowercase();
    for line in [
        "host: shop.example:80",
        "x-forwarded-for: 127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "x-forwarded-proto: http\n",
        "x-forwarded-host: shop.example:80",
        "x-forwarded-port: 80\n",
    ] {
        assert!(seen.contains(line), "{line} is not in\n{seen}");
    }
    assert!(
        !seen.contains("6.6.6.6") && !seen.contains("evil"),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_the_admin_trusts_may_say_who_asked() {
    let bed = Bed::with("set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For;").await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let seen = get(
        bed.address(),
        "shop.example",
        "/headers",
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n",
    )
    .await
    .to_lowercase();
    assert!(
        seen.contains("x-forwarded-for: 6.6.6.6\n") && seen.contains("x-forwarded-proto: https\n"),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_needs_no_room_on_the_disk() {
    if !root_or_skip("a full disk") {
        return;
    }
    let bed = Bed::new().await;
    let (image, routes) = (bed.scratch.join("disk"), bed.paths.routes.clone());
    std::fs::File::create(&image)
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let output = std::process::Command::new(program)
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(
        "mkfs.ext4",
        &[
            "-q".as_ref(),
            "-N".as_ref(),
            "128".as_ref(),
            image.as_os_str(),
        ],
    );
    run(
        "mount",
        &[
            "-o".as_ref(),
            "loop".as_ref(),
            image.as_os_str(),
            routes.as_os_str(),
        ],
    );
    let _unmounted = at_the_end(&format!("umount -l {}", routes.display()));
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let _full = std::fs::write(routes.join("blocks"), vec![1; 8 << 20]).unwrap_err();
    let mut inodes = 0;
    while std::fs::File::create(routes.join(format!("f{inodes}"))).is_ok() {
        inodes += 1;
    }
    for _ in 0..10 {
        for route in [GREEN_WARM, BLUE_WARM, GREEN_WARM, Route::Nobody] {
            bed.switch(&site, route).await;
        }
        bed.traffic.settle(&site.service).unwrap();
    }
    assert!(
        bed.traffic
            .switch(&site.service, split(Slot::Green, 7))
            .is_err(),
        "a new weight does need room"
    );
    assert_eq!(
        bed.traffic.current(&site.service).unwrap(),
        Some(Route::Nobody),
        "and leaves the route as it was"
    );
}

// Whoever prepares mends a route that is missing: it must not be the one that is just switched to.
#[tokio::test(flavor = "multi_thread")]
async fn p1_a_switch_holds_although_the_service_is_being_prepared() {
    let bed = Bed::new().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let link = bed.paths.routes.join("shop/web/current");
    let preparing = async {
        for _ in 0..100 {
            drop(bed.traffic.ensure(std::slice::from_ref(&site)).await);
        }
    };
    let switching = async {
        loop {
            for route in [GREEN, BLUE] {
                drop(std::fs::remove_file(&link));
                bed.traffic.switch(&site.service, route).unwrap();
                assert_eq!(bed.traffic.current(&site.service).unwrap(), Some(route));
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = preparing => {}
        () = switching => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_no_route_is_an_error_and_never_a_guess() {
    let bed = Bed::new().await;
    let site = bed.site("shop/web");
    assert_eq!(bed.traffic.current(&site.service).unwrap(), None);
    assert!(
        bed.traffic.switch(&site.service, BLUE).is_err(),
        "nothing was prepared"
    );
    bed.serve(std::slice::from_ref(&site)).await;
    let link = bed.paths.routes.join("shop/web/current");
    for garbage in ["states/red", "/etc", "states/blue_05", "states/green_33"] {
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(garbage, &link).unwrap();
        assert!(bed.traffic.current(&site.service).is_err(), "{garbage}");
    }
    bed.switch(&site, GREEN).await;
    let _ = bed.traffic.ensure(&[]).await.unwrap();
    bed.traffic.remove(&site.service).unwrap();
    assert_eq!(bed.traffic.current(&site.service).unwrap(), None);
    assert_eq!(std::fs::read_dir(&bed.paths.routes).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_looks_up_its_route_during_a_switch_finds_the_one_before_or_the_one_after() {
    let mut bed = Bed::new().await;
    // One worker looks for one request at a time: once it has answered one that came after a switch, no
    // other is still between its looks, and none sees two switches, however slow the machine is.
    let file = bed.nginx.prefix().join("nginx.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    write(
        &file,
        &text.replace("worker_processes 2;", "worker_processes 1;"),
    );
    bed.nginx.quit(SOON).await;
    bed.nginx.start_again();
    bed.nginx.wait_until_it_serves().await;
    assert_eq!(bed.nginx.workers().len(), 1);
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let load = bed.load().keep_alive(32, 1_500.0).start();
    // So often that many a request is between two of its looks; one look less and some find nothing.
    for turn in 0..6_000 {
        bed.traffic
            .switch(&site.service, if turn % 2 == 0 { GREEN } else { BLUE })
            .unwrap();
        assert!(!bed.get("any.example", "/").await.is_empty());
    }
    let tally = load.stop().await;
    eprintln!("6000 switches: {tally}");
    assert_eq!(
        (tally.failed_by(FailureKind::Status(503)), tally.lost()),
        (0, 0),
        "{tally}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_anew_hears_its_nginx_again() {
    let mut bed = Bed::new().await;
    let _apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    let (signals, reader) = Signals::open(bed.signals.path()).unwrap();
    tokio::spawn(reader.run());
    bed.traffic = Traffic::new(bed.paths.clone(), signals.clone()).unwrap();
    bed.signals = signals;
    bed.know(std::slice::from_ref(&site)).await;
    let ensured = bed
        .traffic
        .ensure(std::slice::from_ref(&site))
        .await
        .unwrap();
    assert!(
        !ensured.reloaded && ensured.unproved.is_empty(),
        "{ensured:?}"
    );
    // Each worker's first line finds the former socket closed, and is lost; the next one finds the new one.
    until(SOON, "a request to be counted", async || {
        bed.get("any.example", "/").await;
        bed.signals.counts().await.unwrap().slots[&(site.service.clone(), Slot::Blue)].requests > 0
    })
    .await;
}
