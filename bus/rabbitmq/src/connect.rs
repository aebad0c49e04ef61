//! One connection: name look-up, TCP, TLS, login.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector, RustlsConnectorConfig};
use lapin::uri::AMQPScheme;
use lapin::{Connection, ConnectionProperties};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::timeout;

use crate::options::{Broker, TlsOptions};

/// Opens connections in the way that the options ask for.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub tls: TlsOptions,
    pub timeout: Duration,
}

impl Connector {
    /// `name`: shown in the broker's list of connections. Reconnecting is the caller's.
    pub async fn connect(&self, broker: &Broker, name: &str) -> Result<Connection, String> {
        let tls = match broker.0.scheme {
            AMQPScheme::AMQPS => Some(Arc::new(self.tls().await?)),
            AMQPScheme::AMQP => None,
        };
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let runtime = lapin::runtime::default_runtime().map_err(|error| error.to_string())?;
        let limit = self.timeout;
        // The dial happens on the connection's own thread, which must end by itself when nobody answers.
        let dial = async move |uri: lapin::uri::AMQPUri, runtime| {
            let authority = &uri.authority;
            let dialing = async {
                let found = tokio::net::lookup_host((authority.host.as_str(), authority.port)).await?;
                let stream = AsyncTcpStream::connect(&runtime, found.collect::<Vec<_>>()).await?;
                match &tls {
                    Some(tls) => stream.into_rustls(tls, &authority.host).await,
                    None => Ok(stream),
                }
            };
            let dialed = timeout(limit, dialing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            dialed.map_err(lapin::Error::from)
        };
        let connecting = Connection::connector(broker.0.clone(), runtime, dial, properties);
        match timeout(self.timeout * 2, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    async fn tls(&self) -> Result<RustlsConnector, String> {
        let config = match &self.tls.ca {
            Some(path) => {
                let pem = read(path).await?;
                let authorities = certificates(&pem).map_err(|error| format!("{}: {error}", path.display()))?;
                RustlsConnectorConfig::default().with_parsable_certificates(authorities)
            }
            None => RustlsConnectorConfig::new_with_native_certs().map_err(|error| error.to_string())?,
        };
        let connector = match (&self.tls.certificate, &self.tls.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(&read(certificate).await?)
                    .map_err(|error| format!("{}: {error}", certificate.display()))?;
                // Not the error's text: it may quote the file.
                let secret = PrivateKeyDer::from_pem_slice(&read(key).await?)
                    .map_err(|_| format!("{}: holds no private key", key.display()))?;
                config.connector_with_single_cert(chain, secret)
            }
            _ => config.connector_with_no_client_auth(),
        };
        connector.map_err(|error| error.to_string())
    }
}

async fn read(path: &std::path::Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("{}: {error}", path.display()))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("holds no certificate".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
