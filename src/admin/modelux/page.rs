//! Cursor pagination: `{"data", "next_cursor", "has_more"}`.
//!
//! A cursor is the place of the last item in an order that no write changes, not a number of items:
//! what comes or goes meanwhile neither repeats nor hides another item.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value as Json, json};

use crate::admin::error::ApiError;
use crate::admin::json as answer;
use crate::base64url;
use crate::limits::{CURSOR_CHARS_MAX, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX};

/// Between the parts of a place; in none of them.
const GAP: char = '\n';

/// Where an item stands in its list: when it was made, then its id.
pub type Place = (String, String);

/// What a query asks of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    limit: usize,
    after: Option<Place>,
}

impl Page {
    /// Other parameters are the list's own.
    pub fn of(query: Option<&str>) -> Result<Self, ApiError> {
        let (mut limit, mut cursor) = (None, None);
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let place = match &*name {
                "limit" => &mut limit,
                "cursor" => &mut cursor,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(ApiError::bad_request("invalid_value", "this is asked for twice").field(name));
            }
        }
        let limit = match limit.filter(|limit| !limit.is_empty()) {
            None => PAGE_ITEMS_DEFAULT,
            Some(text) => {
                let number = text.parse().ok().filter(|number| (1..=PAGE_ITEMS_MAX).contains(number));
                let message = format!("a number from 1 to {PAGE_ITEMS_MAX} goes here");
                number.ok_or_else(|| ApiError::bad_request("invalid_value", message).field("limit"))?
            }
        };
        let after = cursor.filter(|cursor| !cursor.is_empty()).map(|cursor| place(&cursor)).transpose()?;
        Ok(Self { limit, after })
    }

    /// The page of a list, in the order of the items' places.
    pub fn cut(&self, mut items: Vec<(Place, Json)>) -> Response<Bytes> {
        items.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut rest = items.into_iter().filter(|(place, _)| self.after.as_ref().is_none_or(|after| place > after));
        let shown: Vec<(Place, Json)> = rest.by_ref().take(self.limit).collect();
        let has_more = rest.next().is_some();
        let next = shown.last().filter(|_| has_more).map(|((made, id), _)| cursor(made, id));
        let data: Vec<Json> = shown.into_iter().map(|(_, item)| item).collect();
        answer(StatusCode::OK, &json!({"data": data, "next_cursor": next, "has_more": has_more}))
    }
}

fn cursor(made: &str, id: &str) -> String {
    base64url::encode(format!("{made}{GAP}{id}").as_bytes())
}

fn place(cursor: &str) -> Result<Place, ApiError> {
    let bytes = Some(cursor).filter(|it| it.len() <= CURSOR_CHARS_MAX).and_then(base64url::decode);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let place = text.as_deref().and_then(|text| text.split_once(GAP)).map(|(made, id)| (made.into(), id.into()));
    place.ok_or_else(|| ApiError::bad_request("invalid_cursor", "not a cursor of this list").field("cursor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(ids: &[u32]) -> Vec<(Place, Json)> {
        ids.iter().map(|id| (("2026-01-01".to_owned(), format!("{id:03}")), json!(id))).collect()
    }

    /// The ids of a page and its cursor.
    fn page(ids: &[u32], query: &str) -> (Vec<u32>, Option<String>) {
        let body: Json = serde_json::from_slice(Page::of(Some(query)).unwrap().cut(items(ids)).body()).unwrap();
        assert_eq!(body["has_more"].as_bool(), Some(!body["next_cursor"].is_null()));
        (serde_json::from_value(body["data"].clone()).unwrap(), body["next_cursor"].as_str().map(str::to_owned))
    }

    #[test]
    fn a_list_that_changes_repeats_nothing_and_hides_nothing() {
        let (first, cursor) = page(&[5, 1, 9, 7, 3], "limit=2");
        assert_eq!(first, [1, 3]);
        // The last item seen is gone, one came before it and one behind.
        let (second, cursor) = page(&[5, 1, 2, 9, 7, 8], &format!("limit=2&cursor={}", cursor.unwrap()));
        assert_eq!(second, [5, 7]);
        let (third, cursor) = page(&[5, 1, 2, 9, 7, 8], &format!("cursor={}&limit=200", cursor.unwrap()));
        assert_eq!((third, cursor), (vec![8, 9], None));
        assert_eq!(page(&[], ""), (vec![], None));
        assert_eq!(page(&[1, 2], "limit=2"), (vec![1, 2], None));
        let many: Vec<u32> = (0..60).collect();
        assert_eq!(page(&many, "cursor=&limit=").0.len(), 50);
    }

    #[test]
    fn what_is_no_page() {
        for query in ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=1&limit=1", "cursor=!", "cursor=YQ"] {
            let error = Page::of(Some(query)).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{query}");
        }
        assert!(Page::of(Some(&format!("cursor={}", "A".repeat(4096)))).is_err());
    }
}
