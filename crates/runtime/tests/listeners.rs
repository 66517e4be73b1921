//! Listeners out of settings: Kafka's forms and rules.

use strom_runtime::config::{Sources, load};
use strom_runtime::listeners::{ListenerError, Listeners};

fn listeners(flags: &[(&str, &str)]) -> Result<Listeners, ListenerError> {
    let flags = flags
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let settings = load(&Sources {
        flags,
        ..Sources::default()
    })
    .expect("good settings");
    Listeners::from_settings(&settings)
}

fn refused(flags: &[(&str, &str)]) -> String {
    listeners(flags).expect_err("refused").to_string()
}

#[test]
fn the_default_is_one_plaintext_listener() {
    let all = listeners(&[]).unwrap();
    assert_eq!((all.clients.len(), all.controllers.len()), (1, 0));
    assert_eq!(
        (
            all.clients[0].name.as_str(),
            all.clients[0].bind.to_string().as_str()
        ),
        ("PLAINTEXT", "0.0.0.0:9092")
    );
    assert_eq!(all.clients[0].advertised, None);
}

#[test]
fn several_listeners_with_their_advertised_addresses() {
    let all = listeners(&[
        (
            "listeners",
            "PLAINTEXT://:9092,external://[::1]:9094,CONTROLLER://:9093,OWN://10.0.0.1:0",
        ),
        (
            "advertised.listeners",
            "PLAINTEXT://kafka:9092, EXTERNAL://localhost:19094",
        ),
        (
            "listener.security.protocol.map",
            "CONTROLLER:PLAINTEXT,external:plaintext,PLAINTEXT:PLAINTEXT,OWN:PLAINTEXT",
        ),
        ("controller.listener.names", "CONTROLLER"),
    ])
    .unwrap();
    let told: Vec<String> = all
        .clients
        .iter()
        .map(|one| {
            format!(
                "{} {} {}",
                one.name,
                one.bind,
                one.advertised
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "PLAINTEXT 0.0.0.0:9092 kafka:9092",
            "EXTERNAL [::1]:9094 localhost:19094",
            "OWN 10.0.0.1:0 10.0.0.1:0"
        ]
    );
    assert_eq!(all.controllers.len(), 1);
}

#[test]
fn what_cannot_be_served_is_refused() {
    assert!(
        refused(&[("listeners", "SASL_SSL://:9092")])
            .contains("the listener SASL_SSL asks for SASL_SSL, which this version does not serve")
    );
    assert!(refused(&[("listeners", "MINE://:9092")]).contains("no protocol for the listener MINE"));
    assert!(refused(&[("listeners", "localhost:9092")]).contains("NAME://host:port"));
    assert!(refused(&[("listeners", "PLAINTEXT://:port")]).contains("NAME://host:port"));
    assert!(refused(&[("listeners", "PLAINTEXT://:1,PLAINTEXT://:2")]).contains("different name"));
    assert!(refused(&[("listeners", "PLAINTEXT://:1,SSL://:1")]).contains("different port"));
    assert!(refused(&[("advertised.listeners", "SSL://a:1")]).contains("SSL is no listener"));
    assert!(
        refused(&[("advertised.listeners", "PLAINTEXT://0.0.0.0:9092")])
            .contains("nobody can connect to 0.0.0.0:9092")
    );
    assert!(refused(&[("listener.security.protocol.map", "PLAINTEXT")]).contains("NAME:PROTOCOL"));
}
