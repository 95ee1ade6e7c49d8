//! Connects to the first of a receiver's addresses that responds, with Happy Eyeballs (RFC 8305).

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{net::TcpStream, time::timeout};

use super::fault::Fault;

/// Connection timeout per address.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Delay before the next address is also tried (RFC 8305 §8, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);
/// Maximum number of addresses to try, so that a name cannot make this server scan a network.
const MOST_ADDRESSES: usize = 20;

/// Connects to one of `addresses`, all of which must be permitted.
pub async fn connect(addresses: Vec<IpAddr>, port: u16) -> Result<TcpStream, Fault> {
    let stream = race(interleaved(addresses), |address| async move {
        match timeout(CONNECT_TIME, TcpStream::connect(SocketAddr::new(address, port))).await {
            Ok(connected) => connected.map_err(|error| Fault::of_socket(&error)),
            Err(_) => Err(Fault::ConnectionFailed),
        }
    })
    .await?;
    // The exchange is one write, then a response.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Deduplicates the addresses and alternates between the address families, in the order of the resolver (RFC 8305 §4). A
/// family without a route therefore delays the other by at most one stagger.
fn interleaved(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
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
        if pair == [None, None] || ordered.len() >= MOST_ADDRESSES {
            ordered.truncate(MOST_ADDRESSES);
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Runs attempts until one succeeds. Starts the next attempt when the last one has failed or has taken [`STAGGER`]. Drops
/// the other attempts on success, which closes their connections.
async fn race<T, F>(addresses: Vec<IpAddr>, attempt: impl Fn(IpAddr) -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut waiting = addresses.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut fault: Option<Fault> = None;
    loop {
        match waiting.next() {
            Some(address) => under_way.push(attempt(address)),
            None if under_way.is_empty() => return Err(fault.unwrap_or(Fault::AddressNotAllowed)),
            None => {}
        }
        // The last address has no stagger limit.
        let patience = if waiting.len() == 0 { Duration::MAX } else { STAGGER };
        match timeout(patience, under_way.next()).await {
            Ok(Some(Ok(connected))) => return Ok(connected),
            Ok(Some(Err(failed))) => fault = Some(fault.map_or(failed, |fault| fault.or(failed))),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Resolves a name with the system's resolver.
pub async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    // The port is added when connecting.
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// Whether a name cannot exist, so that the resolver need not be queried (RFC 6761 §6.4).
pub fn is_invalid(name: &str) -> bool {
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
        let ordered = interleaved(addresses(&["::1", "::2", "::3", "192.0.2.1", "192.0.2.2", "::2"]));
        assert_eq!(ordered, addresses(&["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"]));
        let ordered = interleaved(addresses(&["192.0.2.1", "192.0.2.2", "::1"]));
        assert_eq!(ordered, addresses(&["192.0.2.1", "::1", "192.0.2.2"]));
        assert!(interleaved(Vec::new()).is_empty());
        let many = (0..1000_u32).map(|n| IpAddr::from(n.to_be_bytes())).collect();
        assert_eq!(interleaved(many).len(), MOST_ADDRESSES);
    }

    /// Races attempts with these results; `None` never completes. Returns the result and the duration.
    async fn raced(ends: &[(&str, Option<Result<(), Fault>>)]) -> (Result<String, Fault>, Duration) {
        let began = Instant::now();
        let found = race(addresses(&ends.iter().map(|(address, _)| *address).collect::<Vec<_>>()), |address| {
            let (name, end) = *ends.iter().find(|(name, _)| *name == address.to_string()).unwrap();
            async move {
                match end {
                    Some(end) => end.map(|()| name.to_owned()),
                    None => std::future::pending().await,
                }
            }
        });
        (found.await, began.elapsed())
    }

    #[tokio::test]
    async fn unresponsive_address_delays_the_next_one_by_250_ms() {
        let (found, took) = raced(&[("192.0.2.1", None), ("192.0.2.2", None), ("192.0.2.3", Some(Ok(())))]).await;
        assert_eq!(found, Ok("192.0.2.3".into()));
        assert!(took >= STAGGER * 2 && took < CONNECT_TIME, "{took:?}");
    }

    #[tokio::test]
    async fn failed_address_does_not_delay_the_next_one() {
        let texts: Vec<String> = (1..=19).map(|n| format!("192.0.2.{n}")).collect();
        let mut ends: Vec<_> = texts.iter().map(|text| (text.as_str(), Some(Err(Fault::ConnectionFailed)))).collect();
        ends.push(("192.0.2.20", Some(Ok(()))));
        let (found, took) = raced(&ends).await;
        assert_eq!(found, Ok("192.0.2.20".into()));
        assert!(took < STAGGER * 19, "{took:?}");
    }

    #[tokio::test]
    async fn failure_is_on_the_servers_side_only_if_no_address_could_be_tried() {
        let (ours, theirs) = (Some(Err(Fault::NoRoute)), Some(Err(Fault::ConnectionFailed)));
        assert_eq!(raced(&[("::1", ours), ("192.0.2.1", ours)]).await.0, Err(Fault::NoRoute));
        assert_eq!(raced(&[("::1", ours), ("192.0.2.1", theirs)]).await.0, Err(Fault::ConnectionFailed));
        assert_eq!(raced(&[("::1", theirs), ("192.0.2.1", ours)]).await.0, Err(Fault::ConnectionFailed));
        assert_eq!(raced(&[]).await.0, Err(Fault::AddressNotAllowed));
    }
}
