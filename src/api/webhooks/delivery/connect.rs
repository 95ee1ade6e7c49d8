//! Connects to the first of a receiver's addresses that responds, with Happy Eyeballs (RFC 8305).

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{net::TcpStream, time::timeout};

use super::error::DeliveryError;

/// Connection timeout per address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay before the next address is also tried (RFC 8305 §8, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);
/// Maximum number of addresses to try, so that a name cannot make this server scan a network.
const MAX_ADDRESSES: usize = 20;

/// Connects to one of `addresses`, all of which must be permitted.
pub async fn connect(addresses: Vec<IpAddr>, port: u16) -> Result<TcpStream, DeliveryError> {
    let stream = race(interleave(addresses), |address| async move {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(SocketAddr::new(address, port))).await {
            Ok(connected) => connected.map_err(|error| DeliveryError::from_socket_error(&error)),
            Err(_) => Err(DeliveryError::ConnectionFailed),
        }
    })
    .await?;
    // The exchange is one write, then a response.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Deduplicates the addresses and alternates between the address families, in the order of the resolver (RFC 8305 §4).
/// A family without a route therefore delays the other by at most one stagger.
fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut unique = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    let begins_with_v6 = unique.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = unique.into_iter().partition(|address| address.is_ipv6() == begins_with_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] || ordered.len() >= MAX_ADDRESSES {
            ordered.truncate(MAX_ADDRESSES);
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Runs attempts until one succeeds. Starts the next attempt when the last one has failed or has taken [`STAGGER`].
/// Drops the other attempts on success, which closes their connections.
async fn race<T, F>(addresses: Vec<IpAddr>, attempt: impl Fn(IpAddr) -> F) -> Result<T, DeliveryError>
where
    F: Future<Output = Result<T, DeliveryError>>,
{
    let mut remaining = addresses.into_iter();
    let mut in_flight = FuturesUnordered::new();
    let mut error: Option<DeliveryError> = None;
    loop {
        match remaining.next() {
            Some(address) => in_flight.push(attempt(address)),
            None if in_flight.is_empty() => return Err(error.unwrap_or(DeliveryError::AddressNotAllowed)),
            None => {}
        }
        // The last address has no stagger limit.
        let delay = if remaining.len() == 0 { Duration::MAX } else { STAGGER };
        match timeout(delay, in_flight.next()).await {
            Ok(Some(Ok(connected))) => return Ok(connected),
            Ok(Some(Err(failed))) => error = Some(error.map_or(failed, |error| error.or(failed))),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Resolves a name with the system's resolver.
pub async fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    // The port is added when connecting.
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// Whether a name cannot exist, so that the resolver need not be queried (RFC 6761 §6.4).
pub fn has_invalid_tld(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("invalid"))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn address_families_alternate_and_the_resolvers_first_address_stays_first() {
        let ordered = interleave(addresses(&["::1", "::2", "::3", "192.0.2.1", "192.0.2.2", "::2"]));
        assert_eq!(ordered, addresses(&["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"]));
        let ordered = interleave(addresses(&["192.0.2.1", "192.0.2.2", "::1"]));
        assert_eq!(ordered, addresses(&["192.0.2.1", "::1", "192.0.2.2"]));
        assert!(interleave(Vec::new()).is_empty());
        let many = (0..1000_u32).map(|n| IpAddr::from(n.to_be_bytes())).collect();
        assert_eq!(interleave(many).len(), MAX_ADDRESSES);
    }

    /// Races attempts with these results; `None` never completes. Returns the result and the duration.
    async fn race_outcome(
        ends: &[(&str, Option<Result<(), DeliveryError>>)],
    ) -> (Result<String, DeliveryError>, Duration) {
        let started = Instant::now();
        let found = race(addresses(&ends.iter().map(|(address, _)| *address).collect::<Vec<_>>()), |address| {
            let (name, end) = *ends.iter().find(|(name, _)| *name == address.to_string()).unwrap();
            async move {
                match end {
                    Some(end) => end.map(|()| name.to_owned()),
                    None => std::future::pending().await,
                }
            }
        });
        (found.await, started.elapsed())
    }

    #[tokio::test]
    async fn unresponsive_address_delays_the_next_one_by_250_ms() {
        let (found, elapsed) =
            race_outcome(&[("192.0.2.1", None), ("192.0.2.2", None), ("192.0.2.3", Some(Ok(())))]).await;
        assert_eq!(found, Ok("192.0.2.3".into()));
        assert!(elapsed >= STAGGER * 2 && elapsed < CONNECT_TIMEOUT, "{elapsed:?}");
    }

    #[tokio::test]
    async fn failed_address_does_not_delay_the_next_one() {
        let texts: Vec<String> = (1..=19).map(|n| format!("192.0.2.{n}")).collect();
        let mut ends: Vec<_> =
            texts.iter().map(|text| (text.as_str(), Some(Err(DeliveryError::ConnectionFailed)))).collect();
        ends.push(("192.0.2.20", Some(Ok(()))));
        let (found, elapsed) = race_outcome(&ends).await;
        assert_eq!(found, Ok("192.0.2.20".into()));
        assert!(elapsed < STAGGER * 19, "{elapsed:?}");
    }

    #[tokio::test]
    async fn failure_is_on_the_servers_side_only_if_no_address_could_be_tried() {
        let (local, remote) = (Some(Err(DeliveryError::NoRoute)), Some(Err(DeliveryError::ConnectionFailed)));
        assert_eq!(race_outcome(&[("::1", local), ("192.0.2.1", local)]).await.0, Err(DeliveryError::NoRoute));
        assert_eq!(
            race_outcome(&[("::1", local), ("192.0.2.1", remote)]).await.0,
            Err(DeliveryError::ConnectionFailed)
        );
        assert_eq!(
            race_outcome(&[("::1", remote), ("192.0.2.1", local)]).await.0,
            Err(DeliveryError::ConnectionFailed)
        );
        assert_eq!(race_outcome(&[]).await.0, Err(DeliveryError::AddressNotAllowed));
    }
}
