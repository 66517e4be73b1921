//! How the process speaks with the other services: by certificates, or in plain text where that was asked for.

use strom_runtime::{Endpoint, InternalTls};
use strom_types::{BrokerId, Identity};

use super::{Plan, PlanError};

impl Plan {
    pub(super) fn secure(&mut self) -> Result<(), PlanError> {
        self.tls = InternalTls::from_settings(&self.settings, self.identities())?;
        self.check_plaintext()
    }

    /// What this process is to the others.
    fn identities(&self) -> Vec<Identity> {
        let broker = self.node_id.map(|id| Identity::Broker(BrokerId(id.get())));
        [
            self.controller.then_some(Identity::Controller),
            broker.filter(|_| self.broker),
            self.gateway.then_some(Identity::Gateway),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Plain text leaves this machine only where that was asked for.
    fn check_plaintext(&self) -> Result<(), PlanError> {
        let asked = self.settings.text("strom.grpc.security.protocol").is_some();
        if asked || self.tls.is_some() {
            return Ok(());
        }
        let controllers = self.controllers.iter().filter_map(|v| v.endpoint.parse().ok());
        match self
            .grpc
            .iter()
            .cloned()
            .chain(controllers)
            .find(|e: &Endpoint| !e.is_local())
        {
            Some(endpoint) => Err(PlanError::Plaintext(endpoint.to_string())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use strom_runtime::tls::TlsError;

    use super::*;
    use crate::args::{Arguments, Command};

    fn plan(arguments: &str) -> Result<Plan, PlanError> {
        let arguments = Arguments::try_parse_from(arguments.split(' ')).unwrap();
        let Command::Role(role) = arguments.command else {
            panic!("a role");
        };
        Plan::of(role)
    }

    #[test]
    fn plain_text_leaves_this_machine_only_when_asked_to() {
        let here = [
            "strom controller --node-id 1 --voters 1@127.0.0.1:9190 --grpc 127.0.0.1:9190",
            "strom broker --node-id 1 --controllers unix:///run/strom.sock --grpc localhost:9190",
            "strom gateway --controllers 1@[::1]:9190",
        ];
        for arguments in here {
            plan(arguments).unwrap();
        }
        let away = [
            "strom controller --node-id 1 --voters 1@127.0.0.1:9190 --grpc 0.0.0.0:9190",
            "strom broker --node-id 1 --controllers 127.0.0.1:9190 --grpc 10.0.0.1:9190",
            "strom gateway --controllers 1@127.0.0.1:9190,2@controller-2:9190",
        ];
        for arguments in away {
            let refused = plan(arguments).unwrap_err();
            assert!(
                matches!(refused, PlanError::Plaintext(_)),
                "{arguments}: {refused}"
            );
            plan(&format!(
                "{arguments} --set strom.grpc.security.protocol=PLAINTEXT"
            ))
            .unwrap();
        }
    }

    #[test]
    fn certificates_come_whole_or_not_at_all() {
        let with = |set: &str| {
            let set = set
                .split(' ')
                .fold(String::new(), |all, key| format!("{all} --set strom.grpc.{key}"));
            match plan(&format!("strom gateway --controllers 1@127.0.0.1:9190{set}")) {
                Err(PlanError::Tls(error)) => error,
                other => panic!("{other:?}"),
            }
        };
        let missing = with("security.protocol=SSL");
        assert!(
            matches!(missing, TlsError::Missing("strom.grpc.tls.certificate.file")),
            "{missing}"
        );
        let missing = with("tls.certificate.file=/x");
        assert!(
            matches!(missing, TlsError::Missing("strom.grpc.tls.key.file")),
            "{missing}"
        );
        let both = with("security.protocol=PLAINTEXT tls.ca.file=/x");
        assert!(
            matches!(both, TlsError::Contradiction("strom.grpc.tls.ca.file")),
            "{both}"
        );
        let unreadable = with("tls.certificate.file=/no/x tls.key.file=/no/x tls.ca.file=/no/x");
        assert!(matches!(unreadable, TlsError::File { .. }), "{unreadable}");
    }
}
