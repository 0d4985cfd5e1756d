//! `cutover host …`

use std::collections::HashMap;

use cutover_proto::v1::{
    CordonHostRequest, HostRequest, HostView, LabelHostRequest, ListHostsRequest, MakeTokenRequest,
};

use super::see::{Asked, decided, through};
use super::{Cx, host_wait};
use crate::args::{HostVerb, LabelChange, Token};
use crate::client::{Asking, Client};
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::interrupt::Interrupts;
use crate::render::{json, now, tables};

/// `cutover host …`
pub(super) async fn run(cx: &Cx<'_>, verb: HostVerb) -> Result<Exit, Failure> {
    let mut client = cx.connect().await?;
    match verb {
        HostVerb::Token(args) => token(cx, &mut client, &args).await,
        HostVerb::Ls => {
            let hosts = list(&mut client, "").await?;
            let values: Vec<_> = hosts.iter().map(json::host::host).collect();
            cx.output.show(&values, || tables::hosts(&hosts, now()));
            if hosts.is_empty() {
                cx.output
                    .say("no hosts: `cutover host token` says how one is added");
            }
            Ok(Exit::Done)
        }
        HostVerb::Show { host } => {
            let hosts = list(&mut client, &host).await?;
            let Some(view) = hosts.into_iter().find(|view| view.host == host) else {
                return Err(
                    Failure::new(Kind::NotFound, format!("there is no host {host:?}"))
                        .next("`cutover host ls` lists them"),
                );
            };
            cx.output.show(&json::host::host(&view), || {
                tables::host(&view, cx.output.zone())
            });
            Ok(Exit::Done)
        }
        HostVerb::Wait(args) => host_wait::wait(cx, &mut client, &args).await,
        HostVerb::Label { host, changes } => {
            let doing = format!("labelling {host}");
            let mut request = LabelHostRequest {
                host,
                ..LabelHostRequest::default()
            };
            for change in changes {
                match change {
                    LabelChange::Set(label) => {
                        request.set.insert(label.key, label.value);
                    }
                    LabelChange::Remove(key) => request.remove.push(key),
                }
            }
            let asked = client.ask(Asking::Change, &doing, request, async |api, q| {
                api.label_host(q).await
            });
            Ok(said(cx, &asked.await?, "is labelled"))
        }
        HostVerb::Cordon { host } => cordon(cx, &mut client, host, true).await,
        HostVerb::Uncordon { host } => cordon(cx, &mut client, host, false).await,
        HostVerb::Drain {
            host,
            force,
            reason,
            wait,
        } => {
            let mut interrupts = Interrupts::listen()?;
            let doing = format!("draining {host}");
            let request = HostRequest {
                host,
                force,
                reason,
            };
            let asked = client.ask(Asking::Change, &doing, request, async |api, q| {
                api.drain_host(q).await
            });
            let decided = decided(cx, &mut interrupts, asked).await?;
            through(
                cx,
                &mut client,
                &mut interrupts,
                decided,
                &wait,
                Asked::Forward,
            )
            .await
        }
        HostVerb::Rm {
            host,
            force,
            reason,
        } => {
            let doing = format!("removing the host {host}");
            let request = HostRequest {
                host,
                force,
                reason,
            };
            let asked = client.ask(Asking::Change, &doing, request, async |api, q| {
                api.remove_host(q).await
            });
            Ok(said(
                cx,
                &asked.await?,
                "is removed, and its certificates are refused",
            ))
        }
    }
}

/// Hosts; all of them when none is named.
pub(super) async fn list(client: &mut Client, host: &str) -> Result<Vec<HostView>, Failure> {
    let request = ListHostsRequest {
        host: host.to_owned(),
    };
    let asked = client.ask(Asking::Look, "listing hosts", request, async |api, q| {
        api.list_hosts(q).await
    });
    Ok(asked.await?.hosts)
}

fn said(cx: &Cx<'_>, view: &HostView, what: &str) -> Exit {
    cx.output
        .show(&json::host::host(view), || format!("{} {what}", view.host));
    Exit::Done
}

async fn cordon(
    cx: &Cx<'_>,
    client: &mut Client,
    host: String,
    cordon: bool,
) -> Result<Exit, Failure> {
    let (doing, done) = if cordon {
        (
            format!("cordoning {host}"),
            "is cordoned: it gets nothing new, what it runs stays",
        )
    } else {
        (format!("uncordoning {host}"), "is counted in again")
    };
    let request = CordonHostRequest { host, cordon };
    let asked = client.ask(Asking::Change, &doing, request, async |api, q| {
        api.cordon_host(q).await
    });
    Ok(said(cx, &asked.await?, done))
}

/// The token alone on standard output, so that it can be piped to the machine.
async fn token(cx: &Cx<'_>, client: &mut Client, args: &Token) -> Result<Exit, Failure> {
    let labels: HashMap<String, String> = args
        .labels
        .iter()
        .map(|label| (label.key.clone(), label.value.clone()))
        .collect();
    let request = MakeTokenRequest {
        uses: args.uses,
        expires_seconds: args.expires.as_secs().max(1),
        labels,
    };
    let asked = client.ask(Asking::Change, "making a token", request, async |api, q| {
        api.make_token(q).await
    });
    let made = asked.await?;
    let enroll = format!(
        "sudo cutover-agent enroll --coordinator {} --token-file -",
        made.enrolment_address
    );
    let value = json::host::Token {
        token: made.token.clone(),
        expires: json::host::expires(made.expires_unix_millis),
        uses: made.uses,
        enrolment_address: made.enrolment_address,
        enroll: enroll.clone(),
    };
    cx.output.show(&value, || made.token);
    let until = crate::render::words::date(made.expires_unix_millis, cx.output.zone());
    let uses = match made.uses {
        1 => "one machine".to_owned(),
        uses => format!("{uses} machines"),
    };
    cx.output.say(&format!(
        "for {uses}, until {until}; on the machine, with the token as its input:\n  {enroll}"
    ));
    Ok(Exit::Done)
}
