//! Which service a name means: `[APP/]SERVICE`, with the app from `-p`,
//! COMPOSE_PROJECT_NAME, or the Compose file in this directory.
//!
//! Kept true: a name that could mean two services means neither; the
//! candidates are said.

use cutover_compose::Input;
use cutover_core::{AppName, ServiceId, ServiceName};
use cutover_proto::v1::StatusRequest;

use crate::args::Shared;
use crate::client::{Asking, Client};
use crate::environment::Environment;
use crate::failure::{Failure, Kind};

/// The app that was said with `-p` or in the environment.
pub(crate) fn said_app(
    shared: &Shared,
    environment: &Environment,
) -> Result<Option<AppName>, Failure> {
    if let Some(app) = &shared.project {
        return Ok(Some(app.clone()));
    }
    environment
        .get("COMPOSE_PROJECT_NAME")
        .map(str::parse)
        .transpose()
        .map_err(|error| Failure::because(Kind::Usage, "reading COMPOSE_PROJECT_NAME", error))
}

/// The app of the Compose file here, if there is one that can be read.
pub(crate) fn app_here(environment: &Environment) -> Option<AppName> {
    let input = Input {
        variables: environment.variables().clone(),
        ..Input::default()
    };
    Some(cutover_compose::load(&input).ok()?.release.app)
}

/// The app that is meant, where one must be.
pub(crate) fn app(shared: &Shared, environment: &Environment) -> Result<AppName, Failure> {
    said_app(shared, environment)?
        .or_else(|| app_here(environment))
        .ok_or_else(|| {
            Failure::new(Kind::Usage, "it is not known which app is meant").next("say -p APP")
        })
}

/// `APP/SERVICE` of what was typed.
pub(crate) async fn service(
    typed: &str,
    shared: &Shared,
    environment: &Environment,
    client: &mut Client,
) -> Result<String, Failure> {
    if typed.contains('/') {
        let whole: ServiceId = typed
            .parse()
            .map_err(|error| Failure::because(Kind::Usage, "reading the service's name", error))?;
        return Ok(whole.to_string());
    }
    let service: ServiceName = typed
        .parse()
        .map_err(|error| Failure::because(Kind::Usage, "reading the service's name", error))?;
    if let Some(app) = said_app(shared, environment)? {
        return Ok(ServiceId { app, service }.to_string());
    }
    let status = client
        .ask(
            Asking::Look,
            "looking for the service",
            StatusRequest::default(),
            async |api, q| api.status(q).await,
        )
        .await?;
    let known: Vec<String> = status.services.into_iter().map(|s| s.service).collect();
    choose(&service, app_here(environment).as_ref(), &known)
}

/// The one of `known` that `service` means.
fn choose(
    service: &ServiceName,
    here: Option<&AppName>,
    known: &[String],
) -> Result<String, Failure> {
    let tail = format!("/{service}");
    let candidates: Vec<&String> = known.iter().filter(|name| name.ends_with(&tail)).collect();
    let of_here = here.map(|app| format!("{app}{tail}"));
    if let Some(name) = candidates
        .iter()
        .find(|name| Some(**name) == of_here.as_ref())
    {
        return Ok((*name).clone());
    }
    match candidates.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let next = if known.is_empty() {
                "nothing was deployed yet".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            Err(
                Failure::new(Kind::NotFound, format!("there is no service \"{service}\""))
                    .next(next),
            )
        }
        many => {
            let names: Vec<&str> = many.iter().map(|name| name.as_str()).collect();
            let what = format!("\"{service}\" may be {}", names.join(" or "));
            Err(Failure::new(Kind::Ambiguous, what).next("write APP/SERVICE, or say -p APP"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_mean_two_services_means_neither() {
        let known = ["shop/web", "blog/web", "shop/db"].map(str::to_owned);
        let choose = |service: &str, here: Option<&str>| {
            let service = service.parse().expect("a name");
            let here: Option<AppName> = here.map(|app| app.parse().expect("a name"));
            choose(&service, here.as_ref(), &known).map_err(|f| (f.kind, f.chain()))
        };
        assert_eq!(choose("db", None), Ok("shop/db".into()));
        assert_eq!(choose("db", Some("blog")), Ok("shop/db".into()));
        assert_eq!(choose("web", Some("blog")), Ok("blog/web".into()));
        let (kind, words) = choose("web", None).expect_err("two");
        assert_eq!(kind, Kind::Ambiguous);
        assert!(words.contains("shop/web or blog/web"), "{words}");
        assert_eq!(choose("api", None).expect_err("none").0, Kind::NotFound);
    }
}
