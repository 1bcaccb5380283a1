//! Where a request goes: (method, host, path) → route.
//!
//! Owns the one rule: the most specific route wins. A host that is named beats any host; then, segment
//! by segment, a literal beats `{name}` beats `*`; then a route with a method beats one without. The danger
//! that shaped it: two spellings of one path, of which a check sees one and the plugin the other. So a
//! path is decoded once, an encoded slash never separates, and `.` and `..` lead nowhere.

use crate::config::RoutePattern;
use crate::config::route::Segment;
use http::Method;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::collections::HashMap;

/// What was found for a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a, T> {
    /// The route's target.
    Route(&'a T),
    /// Routes lead there, but for other methods: these.
    MethodNotAllowed {
        /// For the `Allow` header.
        allow: &'a str,
    },
    /// Nothing.
    None,
}

/// Two routes that say the same.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("two routes are the same: `{0}`")]
pub struct Conflict(pub String);

/// All routes of the house.
#[derive(Debug)]
pub struct Router<T> {
    hosts: HashMap<String, Node<T>>,
    any_host: Node<T>,
}

/// What lies under one prefix of segments.
#[derive(Debug)]
struct Node<T> {
    literals: HashMap<String, Node<T>>,
    any: Option<Box<Node<T>>>,
    /// Routes that end here.
    here: Targets<T>,
    /// Routes that end here with `*`.
    rest: Targets<T>,
}

/// The routes of one place, by method.
#[derive(Debug)]
struct Targets<T> {
    by_method: Vec<(Method, T)>,
    any: Option<T>,
    allow: String,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            literals: HashMap::new(),
            any: None,
            here: Targets::default(),
            rest: Targets::default(),
        }
    }
}

impl<T> Default for Targets<T> {
    fn default() -> Self {
        Self { by_method: Vec::new(), any: None, allow: String::new() }
    }
}

impl<T> Router<T> {
    /// A router for these routes.
    ///
    /// # Errors
    /// Two routes with the same method, host and segments.
    pub fn new(routes: impl IntoIterator<Item = (RoutePattern, T)>) -> Result<Self, Conflict> {
        let mut router = Self { hosts: HashMap::new(), any_host: Node::default() };
        for (route, target) in routes {
            let mut node = match &route.host {
                Some(host) => router.hosts.entry(host.clone()).or_default(),
                None => &mut router.any_host,
            };
            let mut rest = false;
            for segment in &route.segments {
                node = match segment {
                    Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                    Segment::Any => node.any.get_or_insert_default(),
                    Segment::Rest => {
                        rest = true;
                        break;
                    }
                };
            }
            let targets = if rest { &mut node.rest } else { &mut node.here };
            targets.add(route.method, target).map_err(|()| Conflict(route.text))?;
        }
        Ok(router)
    }

    /// The most specific route for a request. `host` may have a port; `path` is as the client sent it.
    pub fn find(&self, method: &Method, host: Option<&str>, path: &str) -> Found<'_, T> {
        let Some(path) = path.strip_prefix('/') else { return Found::None };
        if !is_straight(path) {
            return Found::None;
        }
        let mut search = Search { method, allow: None };
        if !self.hosts.is_empty()
            && let Some(host) = host
            && let Some(node) = self.hosts.get(normal_host(host).as_ref())
            && let Some(target) = search.node(node, path)
        {
            return Found::Route(target);
        }
        match (search.node(&self.any_host, path), search.allow) {
            (Some(target), _) => Found::Route(target),
            (None, Some(allow)) => Found::MethodNotAllowed { allow },
            (None, None) => Found::None,
        }
    }
}

/// One search; remembers the first place where only the method did not fit.
struct Search<'m, 'r> {
    method: &'m Method,
    allow: Option<&'r str>,
}

impl<'r> Search<'_, 'r> {
    /// `path` is what is left after this node, without its leading slash.
    fn node<T>(&mut self, node: &'r Node<T>, path: &str) -> Option<&'r T> {
        let (segment, after) = match path.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (path, None),
        };
        let literal = if segment.contains('%') {
            node.literals.get(percent_decode_str(segment).decode_utf8_lossy().as_ref())
        } else {
            node.literals.get(segment)
        };
        if let Some(child) = literal
            && let Some(target) = self.child(child, after)
        {
            return Some(target);
        }
        if let Some(child) = &node.any
            && !segment.is_empty()
            && let Some(target) = self.child(child, after)
        {
            return Some(target);
        }
        self.targets(&node.rest)
    }

    fn child<T>(&mut self, child: &'r Node<T>, after: Option<&str>) -> Option<&'r T> {
        match after {
            Some(after) => self.node(child, after),
            None => self.targets(&child.here),
        }
    }

    fn targets<T>(&mut self, targets: &'r Targets<T>) -> Option<&'r T> {
        let exact = |method: &Method| {
            targets.by_method.iter().find(|(known, _)| known == method).map(|(_, target)| target)
        };
        let found = exact(self.method)
            .or_else(|| (self.method == Method::HEAD).then(|| exact(&Method::GET)).flatten())
            .or(targets.any.as_ref());
        if found.is_none() && !targets.allow.is_empty() && self.allow.is_none() {
            self.allow = Some(&targets.allow);
        }
        found
    }
}

impl<T> Targets<T> {
    fn add(&mut self, method: Option<Method>, target: T) -> Result<(), ()> {
        match method {
            None if self.any.is_some() => return Err(()),
            None => self.any = Some(target),
            Some(method) if self.by_method.iter().any(|(known, _)| *known == method) => {
                return Err(());
            }
            Some(method) => {
                self.by_method.push((method, target));
                let mut allow: Vec<&str> = self.by_method.iter().map(|(m, _)| m.as_str()).collect();
                if allow.contains(&"GET") && !allow.contains(&"HEAD") {
                    allow.push("HEAD");
                }
                allow.sort_unstable();
                self.allow = allow.join(", ");
            }
        }
        Ok(())
    }
}

/// False when a segment is `.` or `..`, encoded or not, or is not UTF-8 once decoded.
fn is_straight(path: &str) -> bool {
    // Nearly all paths have neither, and need no second look.
    if !path.contains('%') && !path.contains("./") && !path.ends_with('.') {
        return true;
    }
    path.split('/').all(|segment| {
        percent_decode_str(segment)
            .decode_utf8()
            .is_ok_and(|decoded| !matches!(decoded.as_ref(), "." | ".."))
    })
}

/// Without port and trailing dot, in lower case.
fn normal_host(host: &str) -> Cow<'_, str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn router(routes: &[&str]) -> Router<String> {
        Router::new(routes.iter().map(|r| (RoutePattern::parse(r).unwrap(), (*r).to_owned())))
            .unwrap()
    }

    fn find<'a>(router: &'a Router<String>, method: &str, path: &str) -> Found<'a, String> {
        router.find(&method.parse().unwrap(), Some("localhost:8787"), path)
    }

    #[track_caller]
    fn leads(router: &Router<String>, method: &str, path: &str, route: &str) {
        assert_eq!(find(router, method, path), Found::Route(&route.to_owned()), "{method} {path}");
    }

    #[test]
    fn the_most_specific_route_wins() {
        let r = router(&["/*", "/a", "/a/*", "/a/{id}", "/a/b", "/a/{id}/c", "GET /a/b", "/"]);
        leads(&r, "GET", "/", "/");
        leads(&r, "GET", "/x", "/*");
        leads(&r, "GET", "/a", "/a");
        leads(&r, "GET", "/a/", "/a/*");
        leads(&r, "GET", "/a/x", "/a/{id}");
        leads(&r, "GET", "/a/b", "GET /a/b");
        leads(&r, "POST", "/a/b", "/a/b");
        leads(&r, "GET", "/a/x/c", "/a/{id}/c");
        leads(&r, "GET", "/a/x/d", "/a/*");
    }

    #[test]
    fn a_dead_end_falls_back_to_what_is_less_specific() {
        let r = router(&["/a/b/c", "/a/{x}/d", "/*"]);
        leads(&r, "GET", "/a/b/d", "/a/{x}/d");
        leads(&r, "GET", "/a/b/e", "/*");
    }

    #[test]
    fn a_rest_does_not_match_its_own_prefix() {
        let r = router(&["/a/*"]);
        assert_eq!(find(&r, "GET", "/a"), Found::None);
        leads(&r, "GET", "/a/", "/a/*");
    }

    #[test]
    fn head_goes_where_get_goes() {
        leads(&router(&["GET /x"]), "HEAD", "/x", "GET /x");
    }

    #[test]
    fn another_method_is_told_which_are_allowed_unless_a_wider_route_takes_it() {
        let r = router(&["GET /x", "PUT /x"]);
        assert_eq!(find(&r, "DELETE", "/x"), Found::MethodNotAllowed { allow: "GET, HEAD, PUT" });
        leads(&router(&["GET /x", "/*"]), "DELETE", "/x", "/*");
    }

    #[test]
    fn a_named_host_beats_any_host_and_is_compared_without_port_case_and_dot() {
        let r = router(&["/*", "https://cdn.example.com/*", "https://cdn.example.com/only"]);
        for host in ["cdn.example.com", "CDN.example.com:443", "cdn.example.com."] {
            let found = r.find(&Method::GET, Some(host), "/x");
            assert_eq!(found, Found::Route(&"https://cdn.example.com/*".to_owned()));
        }
        assert_eq!(r.find(&Method::GET, None, "/only"), Found::Route(&"/*".to_owned()));
    }

    #[test]
    fn a_path_is_decoded_once_and_an_encoded_slash_does_not_separate() {
        let r = router(&["/a%20b", "/x/{id}", "/x/{id}/y"]);
        leads(&r, "GET", "/a%20b", "/a%20b");
        assert_eq!(find(&r, "GET", "/a%2520b"), Found::None);
        leads(&r, "GET", "/x/1%2Fy", "/x/{id}");
    }

    #[test]
    fn dot_segments_lead_nowhere() {
        let r = router(&["/*"]);
        for path in ["/..", "/a/../b", "/a/%2e%2E/b", "/.", "/%2e", "/a/%ff"] {
            assert_eq!(find(&r, "GET", path), Found::None, "{path}");
        }
        leads(&r, "GET", "/.well-known/x", "/*");
        leads(&r, "GET", "/a./b..", "/*");
    }

    #[test]
    fn the_same_route_twice_is_a_conflict() {
        let twice = ["/x/{a}", "/x/{b}"].map(|r| (RoutePattern::parse(r).unwrap(), ()));
        assert!(Router::new(twice).is_err());
    }

    /// The rule, written as slowly and plainly as it can be.
    fn slow<'r>(routes: &'r [RoutePattern], path: &str) -> Option<&'r str> {
        fn matches(route: &[Segment], path: &[&str]) -> bool {
            match (route.split_first(), path.split_first()) {
                (None, None) => true,
                (Some((Segment::Rest, _)), Some(_)) => true,
                (Some((Segment::Any, route)), Some((s, path))) => {
                    !s.is_empty() && matches(route, path)
                }
                (Some((Segment::Literal(text), route)), Some((s, path))) => {
                    text == s && matches(route, path)
                }
                _ => false,
            }
        }
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let rank = |route: &RoutePattern| -> Vec<u8> {
            route
                .segments
                .iter()
                .map(|s| match s {
                    Segment::Literal(_) => 0,
                    Segment::Any => 1,
                    Segment::Rest => 2,
                })
                .collect()
        };
        routes
            .iter()
            .filter(|route| matches(&route.segments, &segments))
            .min_by_key(|route| rank(route))
            .map(|route| route.text.as_str())
    }

    proptest! {
        #[test]
        fn the_router_agrees_with_the_plain_rule(
            routes in proptest::collection::btree_set("(/(a|b|\\{x\\})){0,3}(/\\*|/|/c)", 1..8),
            path in "(/(a|b|c|)){1,4}",
        ) {
            let patterns: Vec<_> = routes.iter().map(|r| RoutePattern::parse(r).unwrap()).collect();
            let router = Router::new(patterns.iter().map(|p| (p.clone(), p.text.clone()))).unwrap();
            let found = match router.find(&Method::GET, None, &path) {
                Found::Route(route) => Some(route.as_str()),
                _ => None,
            };
            prop_assert_eq!(found, slow(&patterns, &path));
        }

        #[test]
        fn no_path_makes_it_panic(path in ".*", host in ".*") {
            let r = router(&["/*", "/a/{b}/c", "https://x.y/z"]);
            _ = r.find(&Method::GET, Some(&host), &path);
        }
    }
}
