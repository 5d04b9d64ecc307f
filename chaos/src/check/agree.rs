//! Members at the end of a run: all there, all of one mind.

use super::Findings;
use crate::history::History;

pub fn check(history: &History) -> Findings {
    let mut findings = Findings {
        looked_at: history.members.len(),
        ..Default::default()
    };
    for member in &history.members {
        if let Some(missing) = &member.missing {
            findings.add(|| format!("{} did not come back: {missing}", member.name));
        }
    }
    let there: Vec<_> = history
        .members
        .iter()
        .filter(|member| member.missing.is_none())
        .collect();
    for member in &there {
        if (member.hash, member.hash_revision) != (there[0].hash, there[0].hash_revision) {
            findings.add(|| format!("hashes differ: {member:?}, {:?}", there[0]));
        }
        if member.events != there[0].events {
            findings.add(|| format!("histories differ: {member:?}, {:?}", there[0]));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::expect;
    use super::check;
    use crate::history::{History, MemberEnd};

    #[test]
    fn members_are_of_one_mind() {
        let member = |name: &str, hash, events| MemberEnd {
            name: name.to_owned(),
            hash,
            hash_revision: 9,
            events,
            missing: None,
        };
        let check = |members: Vec<MemberEnd>, want: &str| {
            let history = History {
                members,
                ..Default::default()
            };
            expect(&check(&history), want);
        };
        check(vec![member("a", 1, 5), member("b", 1, 5)], "");
        check(vec![member("a", 1, 5), member("b", 2, 5)], "hashes differ");
        check(
            vec![member("a", 1, 5), member("b", 1, 6)],
            "histories differ",
        );
        let mut lost = member("c", 0, 0);
        lost.missing = Some("no answer".to_owned());
        check(vec![member("a", 1, 5), lost], "c did not come back");
    }
}
