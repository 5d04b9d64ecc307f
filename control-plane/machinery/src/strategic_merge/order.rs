//! The order of merged lists: what the patch lists comes in the patch's order, what only the server has keeps its
//! place among it as well as that can be done.

use std::collections::HashMap;

use serde_json::Value;

use super::error::{bad_argument, no_merge_key};
use super::list::element_kind;
use super::{DIRECTIVE, Merger, Object, SET_ELEMENT_ORDER, StrategicMergeError, remove_directives};
use crate::schema::{Field, Type};

/// A scalar that elements are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Text(String),
    Number(String),
    Bool(bool),
}

/// The key of a scalar; objects, lists and null have none.
pub(super) fn key(value: &Value) -> Option<Key> {
    match value {
        Value::String(text) => Some(Key::Text(text.clone())),
        Value::Number(number) => Some(Key::Number(number.to_string())),
        Value::Bool(value) => Some(Key::Bool(*value)),
        _ => None,
    }
}

/// The place of each key in a list that gives an order.
pub(super) type Ranks = HashMap<Key, usize>;

/// How the elements of a list are told apart: by themselves or by a merge key.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a> {
    merge_key: Option<&'a str>,
}

impl<'a> Elements<'a> {
    pub(super) fn scalars() -> Elements<'a> {
        Elements { merge_key: None }
    }

    pub(super) fn objects(merge_key: &'a str) -> Elements<'a> {
        Elements {
            merge_key: Some(merge_key),
        }
    }

    fn key(self, value: &Value) -> Option<Key> {
        match self.merge_key {
            None => key(value),
            Some(name) => value.get(name).and_then(key),
        }
    }

    pub(super) fn ranks(self, list: &[Value]) -> Ranks {
        let mut ranks = Ranks::new();
        for (index, value) in list.iter().enumerate() {
            if let Some(key) = self.key(value) {
                ranks.entry(key).or_insert(index);
            }
        }
        ranks
    }

    /// Orders a merged list by the patch's order first and the server's second.
    pub(super) fn arrange(
        self,
        merged: Vec<Value>,
        patch_order: &Ranks,
        server_order: &Ranks,
    ) -> Result<Vec<Value>, StrategicMergeError> {
        let rank =
            |order: &Ranks, value: &Value| self.key(value).and_then(|key| order.get(&key).copied());
        let (mut patch, mut server) = (Vec::new(), Vec::new());
        for value in merged {
            self.require_key(&value)?;
            match rank(patch_order, &value) {
                Some(place) => patch.push((Some(place), value)),
                None => server.push((rank(server_order, &value), value)),
            }
        }
        sort_by_rank(&mut patch);
        sort_by_rank(&mut server);
        let mut arranged = Vec::with_capacity(patch.len() + server.len());
        let mut patch = patch.into_iter().map(|(_, value)| value).peekable();
        for (place, value) in server {
            // Patched elements come first unless both are known to the server's order and this one is before.
            while let Some(next) = patch.peek() {
                match (place, rank(server_order, next)) {
                    (Some(left), Some(right)) if left < right => break,
                    _ => arranged.extend(patch.next()),
                }
            }
            arranged.push(value);
        }
        arranged.extend(patch);
        Ok(arranged)
    }

    fn require_key(self, value: &Value) -> Result<(), StrategicMergeError> {
        match self.merge_key {
            Some(_) if !value.is_object() => Err(bad_argument("map[string]interface {}", value)),
            Some(name) if value.get(name).is_none() => Err(no_merge_key(value, name)),
            _ => Ok(()),
        }
    }
}

/// Sorts by rank; an element without one moves before those that precede it, as in upstream's comparison.
fn sort_by_rank(list: &mut [(Option<usize>, Value)]) {
    if list.iter().all(|(rank, _)| rank.is_some()) {
        list.sort_by_key(|(rank, _)| *rank);
        return;
    }
    let less = |left: Option<usize>, right: Option<usize>| match (left, right) {
        (Some(left), Some(right)) => left < right,
        _ => true,
    };
    for end in 1..list.len() {
        let mut at = end;
        while at > 0 && less(list[at].0, list[at - 1].0) {
            list.swap(at, at - 1);
            at -= 1;
        }
    }
}

impl Merger<'_> {
    /// Merges the lists for which the patch has a `$setElementOrder` and takes them out of the patch.
    pub(super) fn ordered_lists(
        &self,
        original: &mut Object,
        patch: &mut Object,
        scope: Type,
    ) -> Result<(), StrategicMergeError> {
        let directives: Vec<String> = patch
            .keys()
            .filter(|key| key.starts_with(SET_ELEMENT_ORDER))
            .cloned()
            .collect();
        for directive in directives {
            let order = match patch.shift_remove(&directive) {
                Some(Value::Array(order)) => order,
                other => return Err(bad_argument("[]interface {}", &other.unwrap_or_default())),
            };
            let name = directive[SET_ELEMENT_ORDER.len()..]
                .strip_prefix('/')
                .ok_or(StrategicMergeError::SetElementOrder)?;
            let patched = patch.get(name).map(array).transpose()?;
            let known = original.get(name).map(array).transpose()?;
            let field = self.field(scope, name)?;
            let elements = Elements {
                merge_key: field.patch_merge_key,
            };
            elements.check_order(patched.map_or(&[], Vec::as_slice), &order)?;
            let kinds = [known, patched].map(|list| list.map_or(&[][..], Vec::as_slice));
            if element_kind(&kinds)?.is_none() {
                continue;
            }
            let patched = patch.shift_remove(name);
            let merged = self.ordered_list(original.get(name), patched, &order, field, elements)?;
            original.insert(name.to_owned(), Value::Array(merged));
        }
        Ok(())
    }

    fn ordered_list(
        &self,
        known: Option<&Value>,
        patched: Option<Value>,
        order: &[Value],
        field: &Field,
        elements: Elements<'_>,
    ) -> Result<Vec<Value>, StrategicMergeError> {
        let known = known.and_then(Value::as_array).cloned();
        let server_order = elements.ranks(known.as_deref().unwrap_or_default());
        let merged = match (known, patched) {
            (Some(known), Some(Value::Array(patched))) if field.has_patch_strategy("merge") => {
                self.list(known, patched, field)?
            }
            (_, Some(mut patched)) => {
                remove_directives(&mut patched);
                patched
                    .as_array_mut()
                    .map(std::mem::take)
                    .unwrap_or_default()
            }
            (known, None) => known.unwrap_or_default(),
        };
        elements.arrange(merged, &elements.ranks(order), &server_order)
    }
}

impl Elements<'_> {
    /// The patch's elements must appear in the order list, in that order.
    fn check_order(self, patch: &[Value], order: &[Value]) -> Result<(), StrategicMergeError> {
        if patch.is_empty() || order.is_empty() {
            return Ok(());
        }
        if self.merge_key.is_some()
            && let Some(value) = patch.iter().chain(order).find(|value| !value.is_object())
        {
            return Err(bad_argument("map[string]interface {}", value));
        }
        let mut places = order.iter();
        for value in patch.iter().filter(|value| value.get(DIRECTIVE).is_none()) {
            self.require_key(value)?;
            let wanted = self.key(value);
            let mut found = false;
            for place in places.by_ref() {
                self.require_key(place)?;
                if self.key(place) == wanted {
                    found = true;
                    break;
                }
            }
            if !found {
                let show = |list: &[Value]| super::go_value(&Value::from(list.to_vec()));
                return Err(StrategicMergeError::Other(format!(
                    "The order in patch list:\n{}\n doesn't match {SET_ELEMENT_ORDER} list:\n{}\n",
                    show(patch),
                    show(order)
                )));
            }
        }
        Ok(())
    }
}

fn array(value: &Value) -> Result<&Vec<Value>, StrategicMergeError> {
    value
        .as_array()
        .ok_or_else(|| bad_argument("[]interface {}", value))
}
