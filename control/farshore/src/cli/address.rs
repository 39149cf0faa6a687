//! Addresses that others are told.

/// Checks `HOST:PORT`; an IPv6 address stands in brackets. Whether a name leads anywhere is for those to find out who use it.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let wanted =
        "it is HOST:PORT, like backup1.example:4711 or [2001:db8::1]:4711; port 0 stands for the one listened on";
    let (host, port) = text.rsplit_once(':').ok_or(wanted)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let named = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    if !named || port.parse::<u16>().is_err() {
        return Err(wanted.to_owned());
    }
    Ok(text.to_owned())
}
