//! `--chmod`: an octal mode, or changes in the manner of chmod(1).

/// A mode as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chmod {
    /// `0644`: up to 07777.
    Octal(u32),
    /// `u=rwX,go=rX`, in order.
    Symbolic(Vec<Change>),
}

/// One step of a symbolic mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    who: u32,
    operator: Operator,
    right: Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Permission bits for everybody, to be masked by `who`; `x_if` is `X`; special bits are `s` and `t`.
    Bits { rwx: u32, x_if: bool, set_id: bool, sticky: bool },
    /// What the owner (6), the group (3) or the others (0) have, by its shift.
    Copy(u32),
}

/// Why a text is no mode; worded as people script against it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
pub struct ChmodError(String);

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const STICKY: u32 = 0o1000;

impl Chmod {
    /// Reads a mode.
    pub fn parse(text: &str) -> Result<Self, ChmodError> {
        let fail = || ChmodError(text.chars().take(100).collect());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| fail())?;
            return if mode <= 0o7777 { Ok(Self::Octal(mode)) } else { Err(fail()) };
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            read_clause(clause, &mut changes).ok_or_else(fail)?;
        }
        Ok(Self::Symbolic(changes))
    }

    /// The mode bits that a file with `mode` (07777) gets.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => {
                changes.iter().fold(mode & 0o7777, |mode, change| change.apply(mode, is_dir))
            }
        }
    }
}

impl Change {
    fn apply(self, mode: u32, is_dir: bool) -> u32 {
        let everybody = |rwx: u32| rwx << 6 | rwx << 3 | rwx;
        let bits = match self.right {
            Right::Copy(shift) => everybody(mode >> shift & 0o7),
            Right::Bits { rwx, x_if, set_id, sticky } => {
                let execute = x_if && (is_dir || mode & 0o111 != 0);
                everybody(rwx | u32::from(execute))
                    | if set_id { 0o6000 } else { 0 }
                    | if sticky { STICKY } else { 0 }
            }
        };
        let bits = bits & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => mode & !self.who | bits,
        }
    }
}

/// `[ugoa]*` and then one or more of an operator and what it does.
fn read_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let start = clause.find(['+', '-', '='])?;
    let mut who = 0;
    for letter in clause[..start].chars() {
        who |= match letter {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHER | STICKY,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if start == 0 {
        who = 0o7777;
    }
    let mut rest = &clause[start..];
    while let Some(operator) = rest.chars().next() {
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        changes.push(Change { who, operator, right: read_right(&rest[1..end])? });
        rest = &rest[end..];
    }
    Some(())
}

fn read_right(text: &str) -> Option<Right> {
    match text {
        "u" => return Some(Right::Copy(6)),
        "g" => return Some(Right::Copy(3)),
        "o" => return Some(Right::Copy(0)),
        _ => {}
    }
    let (mut rwx, mut x_if, mut set_id, mut sticky) = (0, false, false, false);
    for letter in text.chars() {
        match letter {
            'r' => rwx |= 4,
            'w' => rwx |= 2,
            'x' => rwx |= 1,
            'X' => x_if = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(Right::Bits { rwx, x_if, set_id, sticky })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, mode, is_dir, wanted) in [
            ("644", 0o777, false, 0o644),
            ("0755", 0, true, 0o755),
            ("7777", 0, false, 0o7777),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, true, 0o2755),
            ("+t", 0o777, true, 0o1777),
            ("o=", 0o777, false, 0o770),
            ("u+r-w", 0o200, false, 0o400),
            ("ug+rw,o-rwx", 0o007, false, 0o660),
        ] {
            assert_eq!(Chmod::parse(text).unwrap().apply(mode, is_dir), wanted, "{text}");
        }
        for text in
            ["", "8", "10000", "u", "x", "u=q", "u=rwx,", "z+x", "0o644", "-1 ", "99999999999999999999"]
        {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
