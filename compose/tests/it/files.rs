//! Which files are read, what the app is called, which services are in it.

use cutover_compose::Severity;

use crate::workshop::{Workshop, web};

fn images(workshop: &Workshop) -> Vec<String> {
    workshop
        .loaded()
        .release
        .services
        .iter()
        .map(|spec| format!("{}={}", spec.service, spec.container.image))
        .collect()
}

#[test]
fn the_default_names_are_found_in_order_and_an_override_is_merged() {
    let a = web("image: a\nuser: u");
    let workshop = Workshop::new(&[
        ("docker-compose.yml", "services: {web: {image: no}}"),
        ("compose.yml", &a),
        ("compose.override.yml", "services: {web: {image: b}}"),
    ]);
    assert_eq!(images(&workshop), ["web=b"]);
    let said: Vec<String> = workshop
        .loaded()
        .notes
        .iter()
        .filter(|note| note.at.is_none())
        .map(|note| note.what.clone())
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        Workshop::new(&[]).errors()[0]
            .starts_with("error: there is no Compose file in DIR; name one with -f")
    );
}

#[test]
fn compose_file_names_the_files_with_its_separator() {
    let files: &[(&str, &str)] = &[
        ("a.yaml", "services: {web: {image: a, user: u}}"),
        ("b.yaml", "services: {web: {image: b}}"),
    ];
    assert_eq!(
        images(&Workshop::new(files).with("COMPOSE_FILE", "a.yaml:b.yaml")),
        ["web=b"]
    );
    let workshop = Workshop::new(files)
        .with("COMPOSE_FILE", "b.yaml|a.yaml")
        .with("COMPOSE_PATH_SEPARATOR", "|");
    assert_eq!(images(&workshop), ["web=a"]);
    let errors = Workshop::new(files).with("COMPOSE_FILE", "c.yaml").errors();
    assert!(
        errors[0].starts_with("error: c.yaml cannot be read: "),
        "{errors:?}"
    );
}

#[test]
fn the_name_is_given_or_a_variable_or_in_the_file_or_the_directorys() {
    let file = format!("name: ${{N}}-file\n{}", web("image: a"));
    let mut workshop = Workshop::new(&[("compose.yaml", &file)]).with("N", "my");
    assert_eq!(workshop.loaded().release.app.as_str(), "shop");
    workshop.input.app = None;
    assert_eq!(workshop.loaded().release.app.as_str(), "my-file");
    let workshop = workshop.with("COMPOSE_PROJECT_NAME", "env");
    assert_eq!(workshop.loaded().release.app.as_str(), "env");
    let mut workshop = Workshop::new(&[("compose.yaml", &web("image: a"))]);
    workshop.input.app = None;
    assert!(
        workshop
            .notes(Severity::Note)
            .iter()
            .any(|note| note.contains("as its directory is"))
    );
}

const THREE: &str = "
services:
  web: {image: \"shop/web:1\", depends_on: {api: {condition: service_healthy}, debug: {condition: service_started, required: false}}}
  api: {image: \"shop/api:1\"}
  debug: {image: \"shop/api:1\", profiles: [debug]}
";

#[test]
fn services_come_in_start_order_and_profiles_choose() {
    let workshop = Workshop::new(&[("compose.yaml", THREE)]);
    assert_eq!(images(&workshop), ["api=shop/api:1", "web=shop/web:1"]);
    let release = workshop.loaded().release;
    assert_eq!(release.declared.len(), 3);
    assert_eq!(
        release
            .depends_on
            .values()
            .map(std::collections::BTreeSet::len)
            .sum::<usize>(),
        1
    );
    let workshop = workshop.with("COMPOSE_PROFILES", "x, debug");
    assert_eq!(
        images(&workshop),
        ["api=shop/api:1", "debug=shop/api:1", "web=shop/web:1"]
    );
}

#[test]
fn only_chooses_services_even_those_whose_profile_is_off() {
    let mut workshop = Workshop::new(&[("compose.yaml", THREE)]);
    workshop.input.only = vec!["debug".parse().expect("a name")];
    assert_eq!(images(&workshop), ["debug=shop/api:1"]);
    workshop.input.only = vec!["wbe".parse().expect("a name")];
    assert_eq!(
        workshop.errors(),
        ["error: --only wbe: there is no such service; did you mean 'web'?"]
    );
}

#[test]
fn an_image_is_replaced_by_service_or_by_repository() {
    let mut workshop = Workshop::new(&[("compose.yaml", THREE)]).with("COMPOSE_PROFILES", "debug");
    workshop.input.images = vec![
        "shop/api=shop/api:2".parse().expect("one"),
        "debug=other:3".parse().expect("one"),
    ];
    assert_eq!(
        images(&workshop),
        ["api=shop/api:2", "debug=other:3", "web=shop/web:1"]
    );
    workshop.input.images = vec!["shop/wep=x:1".parse().expect("one")];
    assert_eq!(
        workshop.errors(),
        [
            "error: --image shop/wep=x:1: no service and no image is called shop/wep; did you mean 'shop/web'?"
        ]
    );
    let mut built = Workshop::new(&[("compose.yaml", &web("build: ."))]);
    built.input.images = vec!["web=shop/web:9".parse().expect("one")];
    assert_eq!(images(&built), ["web=shop/web:9"]);
}
