//! The nftables table of build networks, written over netlink: the program `nft` would take longer to start than a
//! sandbox lives.
//!
//! The table is replaced whole, in one transaction, so there is no moment without rules, and what another version of
//! forge wrote is gone. In nft's own language it reads
//!
//! ```text
//! table inet forge_build {
//!   chain forward {
//!     type filter hook forward priority filter - 5;
//!     iifname "forge*" oifname "forge*" drop
//!     iifname "forge*" meta nfproto ipv6 drop
//!     iifname "forge*" ct mark set 0x666f7267 accept
//!     oifname "forge*" ct state established,related accept
//!     oifname "forge*" drop
//!     drop                                             (only if the host did not forward before)
//!   }
//!   chain input {
//!     type filter hook input priority filter - 5;
//!     iifname "forge*" ct state established,related accept
//!     iifname "forgehost*" meta nfproto ipv4 accept
//!     iifname "forge*" meta nfproto ipv4 udp dport 53 accept
//!     iifname "forge*" meta nfproto ipv4 tcp dport 53 accept
//!     iifname "forge*" drop
//!   }
//!   chain postrouting {
//!     type nat hook postrouting priority srcnat;
//!     ct mark 0x666f7267 masquerade
//!   }
//! }
//! ```

use std::io;

use rustix::net::netlink::NETFILTER;

use super::netlink::{Message, Refusal, Socket};
use super::veth::{INTERFACE_PREFIX, REACHING_PREFIX};

const TABLE: &str = "forge_build";
/// The mark that tells traffic of sandboxes from other forwarded traffic: "forg".
const MARK: u32 = 0x666f_7267;
/// `NF_CT_STATE_BIT` of established and related.
const ANSWERS: u32 = 0b110;

/// Begins and ends a transaction, linux/netfilter/nfnetlink.h.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const INET: u8 = 1;

/// Why the rules could not be written.
#[derive(Debug)]
pub(super) struct Refused {
    /// The part that was.
    pub(super) part: &'static str,
    /// The kernel's error.
    pub(super) error: io::Error,
}

/// A test or an action, all on the first register.
enum Expression {
    /// Loads what `meta` calls by this key.
    Meta(u32),
    /// Loads what `ct` calls by this key.
    Ct(u32),
    /// Sets it from the register.
    SetCt(u32),
    /// Loads a port or another field of the transport header: offset and length.
    Transport(u32, u32),
    /// Loads a value.
    Value(Vec<u8>),
    /// Keeps these bits.
    Mask(u32),
    /// Goes on if the register begins with this.
    Is(Vec<u8>),
    /// Goes on if it does not.
    IsNot(Vec<u8>),
    /// Ends here.
    Verdict(u32),
    /// Rewrites the source address.
    Masquerade,
}

use Expression::{Ct, Is, IsNot, Mask, Masquerade, Meta, SetCt, Transport, Value, Verdict};

/// Keys, registers and verdicts of linux/netfilter/nf_tables.h.
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_MARK: u32 = 3;
const DESTINATION_PORT: Expression = Transport(2, 2);
const ACCEPT: Expression = Verdict(1);
const DROP: Expression = Verdict(0);

/// A chain: name, type, hook, priority.
type Chain = (&'static str, &'static str, u32, i32);
const FORWARD: Chain = ("forward", "filter", 2, -5);
const INPUT: Chain = ("input", "filter", 1, -5);
const POSTROUTING: Chain = ("postrouting", "nat", 4, 100);

/// Writes the table. `forwards_all` says that the host forwarded before, so that other traffic is not ours to stop.
pub(super) fn install(forwards_all: bool) -> Result<(), Refused> {
    let mut batch = Batch::new();
    batch.remove_table();
    batch.add_table();
    [FORWARD, INPUT, POSTROUTING].into_iter().for_each(|chain| batch.add_chain(chain));
    for (chain, rule) in rules(forwards_all) {
        batch.add_rule(chain, &rule);
    }
    batch.commit()
}

/// Removes the table, if it is there.
pub(super) fn remove() -> Result<(), Refused> {
    let mut batch = Batch::new();
    batch.remove_table();
    batch.commit()
}

/// Asks for a table that is nobody's: the kernel says that there is none, if it has nftables and lets us ask.
pub(super) fn probe() -> io::Result<()> {
    const GET_TABLE: u16 = 1;
    let mut message = Message::new(SUBSYSTEM << 8 | GET_TABLE, libc::NLM_F_ACK, 0);
    message.fields([INET, 0, 0, 0]);
    message.string(1, "forge_probe");
    match Socket::open(Some(NETFILTER))?.ask(&message.finish()) {
        Err(Refusal { error, .. }) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

fn rules(forwards_all: bool) -> Vec<(Chain, Vec<Expression>)> {
    let comes_from = |prefix: &str| [Meta(IIFNAME), Is(prefix.into())];
    let goes_to = |prefix: &str| [Meta(OIFNAME), Is(prefix.into())];
    let (from_us, to_us) = (|| comes_from(INTERFACE_PREFIX), || goes_to(INTERFACE_PREFIX));
    let family = |number: i32| [Meta(NFPROTO), Is(vec![number as u8])];
    let (ipv4, ipv6) = (|| family(libc::NFPROTO_IPV4), || family(libc::NFPROTO_IPV6));
    let answers = || [Ct(CT_STATE), Mask(ANSWERS), IsNot(vec![0; 4])];
    let mark = MARK.to_ne_bytes().to_vec();
    let dns = |protocol: i32| {
        [Meta(L4PROTO), Is(vec![protocol as u8]), DESTINATION_PORT, Is(53_u16.to_be_bytes().into())]
    };
    let mut rules = vec![
        (FORWARD, all([from_us().into(), to_us().into(), vec![DROP]])),
        (FORWARD, all([from_us().into(), ipv6().into(), vec![DROP]])),
        (FORWARD, all([from_us().into(), vec![Value(mark.clone()), SetCt(CT_MARK), ACCEPT]])),
        (FORWARD, all([to_us().into(), answers().into(), vec![ACCEPT]])),
        (FORWARD, all([to_us().into(), vec![DROP]])),
        (INPUT, all([from_us().into(), answers().into(), vec![ACCEPT]])),
        (INPUT, all([comes_from(REACHING_PREFIX).into(), ipv4().into(), vec![ACCEPT]])),
        (INPUT, all([from_us().into(), ipv4().into(), dns(libc::IPPROTO_UDP).into(), vec![ACCEPT]])),
        (INPUT, all([from_us().into(), ipv4().into(), dns(libc::IPPROTO_TCP).into(), vec![ACCEPT]])),
        (INPUT, all([from_us().into(), vec![DROP]])),
        (POSTROUTING, vec![Ct(CT_MARK), Is(mark), Masquerade]),
    ];
    if !forwards_all {
        rules.push((FORWARD, vec![DROP]));
    }
    rules
}

fn all<const PARTS: usize>(parts: [Vec<Expression>; PARTS]) -> Vec<Expression> {
    parts.into_iter().flatten().collect()
}

/// One transaction.
struct Batch {
    messages: Vec<Message>,
    /// What each message is about; its number is its place.
    parts: Vec<&'static str>,
}

impl Batch {
    fn new() -> Batch {
        let mut batch = Batch { messages: Vec::new(), parts: Vec::new() };
        batch.begin_or_end(BATCH_BEGIN);
        batch
    }

    fn begin_or_end(&mut self, kind: u16) {
        let mut message = self.next(kind, 0, "transaction");
        message.fields([libc::AF_UNSPEC as u8, 0]);
        message.fields(SUBSYSTEM.to_be_bytes());
        self.messages.push(message);
    }

    fn next(&mut self, kind: u16, flags: libc::c_int, part: &'static str) -> Message {
        self.parts.push(part);
        let number = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        Message::new(kind, flags, number)
    }

    fn add(&mut self, kind: u16, flags: libc::c_int, part: &'static str, fill: impl FnOnce(&mut Message)) {
        let mut message = self.next(SUBSYSTEM << 8 | kind, flags, part);
        message.fields([INET, 0, 0, 0]);
        fill(&mut message);
        self.messages.push(message);
    }

    fn add_table(&mut self) {
        const NEW_TABLE: u16 = 0;
        self.add(NEW_TABLE, libc::NLM_F_CREATE, "table", |message| message.string(1, TABLE));
    }

    /// Made first, so that there is one to remove.
    fn remove_table(&mut self) {
        const DELETE_TABLE: u16 = 2;
        self.add_table();
        self.add(DELETE_TABLE, 0, "table", |message| message.string(1, TABLE));
    }

    fn add_chain(&mut self, (name, kind, hook, priority): Chain) {
        const NEW_CHAIN: u16 = 3;
        self.add(NEW_CHAIN, libc::NLM_F_CREATE, name, |message| {
            message.string(1, TABLE);
            message.string(3, name);
            nest(message, 4, |place| {
                number(place, 1, hook);
                number(place, 2, priority.cast_unsigned());
            });
            message.string(7, kind);
        });
    }

    fn add_rule(&mut self, (chain, ..): Chain, expressions: &[Expression]) {
        const NEW_RULE: u16 = 6;
        self.add(NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, chain, |message| {
            message.string(1, TABLE);
            message.string(2, chain);
            nest(message, 4, |list| expressions.iter().for_each(|expression| expression.write(list)));
        });
    }

    fn commit(mut self) -> Result<(), Refused> {
        self.begin_or_end(BATCH_END);
        let last = self.messages.len().saturating_sub(2);
        let bytes = self.messages.into_iter().enumerate().flat_map(|(index, message)| {
            let message = if index == last { message.acknowledged() } else { message };
            message.finish()
        });
        let bytes: Vec<u8> = bytes.collect();
        let asked = Socket::open(Some(NETFILTER)).map_err(|error| Refused { part: "socket", error });
        asked?.ask(&bytes).map_err(|refusal| {
            let part = self.parts.get(refusal.number as usize).copied().unwrap_or("transaction");
            Refused { part, error: refusal.error }
        })
    }
}

impl Expression {
    fn write(&self, list: &mut Message) {
        const FIRST: u32 = 1;
        let element = |list: &mut Message, name: &str, fill: &dyn Fn(&mut Message)| {
            nest(list, 1, |element| {
                element.string(1, name);
                nest(element, 2, |data| fill(data));
            });
        };
        let numbers = |values: &[(u16, u32)], data: &mut Message| {
            values.iter().for_each(|(kind, value)| number(data, *kind, *value));
        };
        let value = |data: &mut Message, kind: u16, bytes: &[u8]| {
            nest(data, kind, |inner| inner.attribute(1, bytes));
        };
        match self {
            Meta(key) => element(list, "meta", &|data| numbers(&[(2, *key), (1, FIRST)], data)),
            Ct(key) => element(list, "ct", &|data| numbers(&[(2, *key), (1, FIRST)], data)),
            SetCt(key) => element(list, "ct", &|data| numbers(&[(2, *key), (4, FIRST)], data)),
            Transport(offset, length) => element(list, "payload", &|data| {
                const TRANSPORT: u32 = 2;
                numbers(&[(1, FIRST), (2, TRANSPORT), (3, *offset), (4, *length)], data);
            }),
            Value(bytes) => element(list, "immediate", &|data| {
                number(data, 1, FIRST);
                value(data, 2, bytes);
            }),
            Mask(bits) => element(list, "bitwise", &|data| {
                numbers(&[(1, FIRST), (2, FIRST), (3, 4)], data);
                value(data, 4, &bits.to_ne_bytes());
                value(data, 5, &[0; 4]);
            }),
            Is(bytes) => element(list, "cmp", &|data| {
                numbers(&[(1, FIRST), (2, 0)], data);
                value(data, 3, bytes);
            }),
            IsNot(bytes) => element(list, "cmp", &|data| {
                numbers(&[(1, FIRST), (2, 1)], data);
                value(data, 3, bytes);
            }),
            Verdict(code) => element(list, "immediate", &|data| {
                number(data, 1, 0);
                nest(data, 2, |inner| nest(inner, 2, |verdict| number(verdict, 1, *code)));
            }),
            Masquerade => element(list, "masq", &|_| {}),
        }
    }
}

/// Attributes that hold attributes say so here.
fn nest(message: &mut Message, kind: u16, fill: impl FnOnce(&mut Message)) {
    message.nested(libc::NLA_F_NESTED as u16 | kind, fill);
}

/// Numbers are in network order.
fn number(message: &mut Message, kind: u16, value: u32) {
    message.attribute(kind, &value.to_be_bytes());
}
