//! `record!`: one list of members gives the struct, its reader, its schema and its canonical form.

/// A JSON object as a struct.
///
/// ```text
/// record! {
///     /// Description in the schema.
///     #[derive(Clone, Debug, Default, PartialEq)]
///     pub struct TlsFile {
///         /// Description of the member.
///         pub cert_file: Option<String>,
///         named "$schema" pub schema: Option<String>,        // spelled otherwise in JSON
///         pub drain_seconds: Option<Duration> as Seconds<1>,  // read as another type, kept as this
///     }
///     shorthand cert_file               // a bare string is this member
///     accepts { status: String, }       // read, checked and dropped
///     computes { pub hash: ConfigHash = of_node, }   // fn(&Value) -> ConfigHash
///     finish fold                       // fn(&mut Self, Node, &mut Problems), after all members
/// }
/// ```
/// A member whose type is not an `Option` is required.
macro_rules! record {
    (
        $(#[doc = $doc:literal])*
        #[derive($($derive:ident),+)]
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $mdoc:literal])*
                $(named $json:literal)? pub $member:ident : $type:ty $(as $form:ty)?
            ),* $(,)?
        }
        $(shorthand $short:ident)?
        $(accepts { $( $(#[doc = $adoc:literal])* $accepted:ident : $atype:ty ),* $(,)? })?
        $(computes { $( $(#[doc = $cdoc:literal])* pub $computed:ident : $ctype:ty = $compute:path ),* $(,)? })?
        $(finish $finish:path)?
    ) => {
        $(#[doc = $doc])*
        #[derive($($derive),+)]
        $vis struct $name {
            $( $(#[doc = $mdoc])* pub $member: $type, )*
            $( $( $(#[doc = $cdoc])* pub $computed: $ctype, )* )?
        }

        impl $name {
            /// Every member that may stand in the file.
            pub const MEMBERS: &'static [&'static str] = &[
                $( $crate::config::record::record!(@name $member $($json)?), )*
                $( $( stringify!($accepted), )* )?
            ];
        }

        impl $crate::config::read::FromConfig for $name {
            fn read(
                node: $crate::config::read::Node<'_>,
                problems: &mut $crate::config::Problems,
            ) -> Option<Self> {
                $(
                    if let $crate::config::syntax::Kind::Text(_) = &node.value.kind {
                        let $short = $crate::config::read::FromConfig::read(node, problems)?;
                        return Some(Self { $short, ..Self::default() });
                    }
                )?
                let members = node.members(Self::MEMBERS, problems)?;
                $(
                    let $member = $crate::config::record::record!(
                        @take members, problems, $crate::config::record::record!(@name $member $($json)?), $type $(, $form)?
                    );
                )*
                $( $( let _ = members.take::<Option<$atype>>(stringify!($accepted), problems); )* )?
                #[allow(unused_mut, clippy::allow_attributes, reason = "only a record with a finish changes it")]
                let mut record = Self {
                    $( $member: $member?, )*
                    $( $( $computed: $compute(node.value), )* )?
                };
                $( $finish(&mut record, node, problems); )?
                Some(record)
            }

            fn schema(defs: &mut $crate::config::schema::Defs) -> $crate::config::schema::SchemaRef {
                defs.named(stringify!($name).trim_end_matches("File"), |defs| {
                    let members = vec![
                        $( $crate::config::schema::MemberSchema {
                            name: $crate::config::record::record!(@name $member $($json)?),
                            doc: &[$($mdoc),*],
                            schema: <$crate::config::record::record!(@form $type $(, $form)?)>::schema(defs),
                            required: <$crate::config::record::record!(@form $type $(, $form)?)>::absent().is_none(),
                        }, )*
                        $( $( $crate::config::schema::MemberSchema {
                            name: stringify!($accepted),
                            doc: &[$($adoc),*],
                            schema: <$atype>::schema(defs),
                            required: false,
                        }, )* )?
                    ];
                    let shorthand = $crate::config::record::record!(@shorthand $($short)?);
                    $crate::config::schema::object(&[$($doc),*], members, shorthand)
                })
            }

            fn canon(value: &$crate::config::syntax::Value) -> $crate::hash::Canon {
                use $crate::config::syntax::Kind;
                let canon = |name: &str, value: &$crate::config::syntax::Value| match name {
                    $( $crate::config::record::record!(@name $member $($json)?) =>
                        <$crate::config::record::record!(@form $type $(, $form)?)>::canon(value), )*
                    $( $( stringify!($accepted) => <$atype>::canon(value), )* )?
                    // What the reader does not know is hashed all the same.
                    _ => $crate::config::read::plain(value),
                };
                match &value.kind {
                    $( Kind::Text(_) => $crate::hash::Canon::Object(
                        [(stringify!($short).to_owned(), canon(stringify!($short), value))].into(),
                    ), )?
                    Kind::Object(members) => $crate::hash::Canon::Object(
                        members
                            .iter()
                            .map(|m| (m.name.to_string(), canon(&m.name, &m.value)))
                            .filter(|(_, canon)| *canon != $crate::hash::Canon::Null)
                            .collect(),
                    ),
                    _ => $crate::config::read::plain(value),
                }
            }
        }
    };

    (@name $member:ident) => { stringify!($member) };
    (@name $member:ident $json:literal) => { $json };
    (@form $type:ty) => { $type };
    (@form $type:ty, $form:ty) => { Option<$form> };
    (@take $members:ident, $problems:ident, $name:expr, $type:ty) => {
        $members.take::<$type>($name, $problems)
    };
    (@take $members:ident, $problems:ident, $name:expr, $type:ty, $form:ty) => {
        $members.take::<Option<$form>>($name, $problems).map(|read| read.map(Into::into))
    };
    (@shorthand) => { None };
    (@shorthand $short:ident) => { Some(serde_json::json!({"type": "string"})) };
}

pub(crate) use record;
