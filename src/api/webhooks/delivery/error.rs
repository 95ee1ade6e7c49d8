//! Reasons for failed attempts, and the side that caused them.

use std::io;

use nix::errno::Errno;

/// Reason for an attempt without a response, shown to the owner of the webhook. Contains no data from the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryError {
    /// The name has no address.
    NameNotFound,
    /// None of the addresses is permitted.
    AddressNotAllowed,
    /// Connections to all addresses failed.
    ConnectionFailed,
    /// The certificate was rejected, or the TLS handshake failed otherwise.
    TlsFailed,
    /// The exchange timed out.
    Timeout,
    /// The response was not valid HTTP, or the connection closed early.
    BadResponse,
    /// No name server responded to this machine.
    NameLookupFailed,
    /// This machine has no route to any of the addresses, or is not permitted to use it.
    NoRoute,
    /// This process or machine is out of sockets, ports or memory.
    OutOfResources,
    /// No certificate authorities are installed on this machine.
    NoAuthorities,
}

impl DeliveryError {
    /// All variants.
    pub const ALL: [Self; 10] = [
        Self::NameNotFound,
        Self::AddressNotAllowed,
        Self::ConnectionFailed,
        Self::TlsFailed,
        Self::Timeout,
        Self::BadResponse,
        Self::NameLookupFailed,
        Self::NoRoute,
        Self::OutOfResources,
        Self::NoAuthorities,
    ];

    /// Error code in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameNotFound => "name_not_found",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::ConnectionFailed => "connection_failed",
            Self::TlsFailed => "tls_failed",
            Self::Timeout => "timeout",
            Self::BadResponse => "bad_answer",
            Self::NameLookupFailed => "name_lookup_failed",
            Self::NoRoute => "no_route",
            Self::OutOfResources => "out_of_resources",
            Self::NoAuthorities => "no_authorities",
        }
    }

    /// Whether the cause is this server, its machine or its network. Such a failure does not count against the
    /// receiver.
    pub const fn is_local(self) -> bool {
        match self {
            Self::NameLookupFailed | Self::NoRoute | Self::OutOfResources | Self::NoAuthorities => true,
            Self::NameNotFound
            | Self::AddressNotAllowed
            | Self::ConnectionFailed
            | Self::TlsFailed
            | Self::Timeout
            | Self::BadResponse => false,
        }
    }

    /// Classifies an I/O error of a connection, during or after its establishment.
    pub fn from_socket_error(error: &io::Error) -> Self {
        Self::from_local_errno(error).unwrap_or(Self::ConnectionFailed)
    }

    /// Classifies an error of a name lookup. The system's resolver reports the reason only as text. Only a definite "no
    /// such name" is the receiver's failure; every other error is a failure of the resolver.
    pub fn from_lookup_error(error: &io::Error) -> Self {
        /// Texts of glibc, musl, macOS and the BSDs for EAI_NONAME and EAI_NODATA.
        const NOT_FOUND: [&str; 6] = [
            "name or service not known",
            "no address associated with hostname",
            "name does not resolve",
            "name has no usable address",
            "nodename nor servname provided",
            "no address associated with name",
        ];
        if let Some(local) = Self::from_local_errno(error) {
            return local;
        }
        let text = error.to_string().to_ascii_lowercase();
        if NOT_FOUND.iter().any(|reason| text.contains(reason)) { Self::NameNotFound } else { Self::NameLookupFailed }
    }

    fn from_local_errno(error: &io::Error) -> Option<Self> {
        Some(match Errno::from_raw(error.raw_os_error()?) {
            Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EAGAIN | Errno::ENOSPC => {
                Self::OutOfResources
            }
            // EADDRNOTAVAIL: no address of this family, or no free port. EACCES and EPERM come from a local firewall.
            Errno::ENETUNREACH
            | Errno::ENETDOWN
            | Errno::EADDRNOTAVAIL
            | Errno::EAFNOSUPPORT
            | Errno::EACCES
            | Errno::EPERM => Self::NoRoute,
            _ => return None,
        })
    }

    /// Combines the failures of two addresses of one name. A failure of the receiver takes precedence: the name has an
    /// address that this machine could have reached.
    pub fn or(self, other: Self) -> Self {
        if self.is_local() { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_this_machine_and_of_the_receiver_are_distinguished() {
        let table = [
            (Errno::ECONNREFUSED, DeliveryError::ConnectionFailed),
            (Errno::ECONNRESET, DeliveryError::ConnectionFailed),
            (Errno::ETIMEDOUT, DeliveryError::ConnectionFailed),
            (Errno::EHOSTUNREACH, DeliveryError::ConnectionFailed),
            (Errno::EHOSTDOWN, DeliveryError::ConnectionFailed),
            (Errno::ENETUNREACH, DeliveryError::NoRoute),
            (Errno::ENETDOWN, DeliveryError::NoRoute),
            (Errno::EADDRNOTAVAIL, DeliveryError::NoRoute),
            (Errno::EAFNOSUPPORT, DeliveryError::NoRoute),
            (Errno::EACCES, DeliveryError::NoRoute),
            (Errno::EPERM, DeliveryError::NoRoute),
            (Errno::EMFILE, DeliveryError::OutOfResources),
            (Errno::ENFILE, DeliveryError::OutOfResources),
            (Errno::ENOBUFS, DeliveryError::OutOfResources),
            (Errno::ENOMEM, DeliveryError::OutOfResources),
            (Errno::EAGAIN, DeliveryError::OutOfResources),
            (Errno::ENOSPC, DeliveryError::OutOfResources),
        ];
        for (errno, expected) in table {
            let error = || io::Error::from_raw_os_error(errno as i32);
            assert_eq!(DeliveryError::from_socket_error(&error()), expected, "{errno}");
            let of_lookup = if expected.is_local() { expected } else { DeliveryError::NameLookupFailed };
            assert_eq!(DeliveryError::from_lookup_error(&error()), of_lookup, "{errno}");
        }
    }

    #[test]
    fn only_a_nonexistent_name_is_the_receivers_failure() {
        let prefix = "failed to lookup address information: ";
        for (text, expected) in [
            ("Name or service not known", DeliveryError::NameNotFound),
            ("No address associated with hostname", DeliveryError::NameNotFound),
            ("Name does not resolve", DeliveryError::NameNotFound),
            ("nodename nor servname provided, or not known", DeliveryError::NameNotFound),
            ("Temporary failure in name resolution", DeliveryError::NameLookupFailed),
            ("Non-recoverable failure in name resolution", DeliveryError::NameLookupFailed),
            ("Try again", DeliveryError::NameLookupFailed),
            ("Memory allocation failure", DeliveryError::NameLookupFailed),
        ] {
            assert_eq!(
                DeliveryError::from_lookup_error(&io::Error::other(format!("{prefix}{text}"))),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn receiver_failure_takes_precedence_over_server_failures() {
        assert_eq!(DeliveryError::NoRoute.or(DeliveryError::ConnectionFailed), DeliveryError::ConnectionFailed);
        assert_eq!(DeliveryError::ConnectionFailed.or(DeliveryError::NoRoute), DeliveryError::ConnectionFailed);
        assert_eq!(DeliveryError::NoRoute.or(DeliveryError::OutOfResources), DeliveryError::OutOfResources);
    }
}
