//! What the OpenAPI document says of each route beside what the router's table knows: id, tag, summary,
//! and the components of body and answer.

use crate::router::AdminRoute;

/// What the table does not say of a route.
pub(super) struct Operation {
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    /// Component of the body.
    pub body: Option<&'static str>,
    /// Component of the answer.
    pub answer: &'static str,
    /// Query parameters: name, whether it must be there, what it is.
    pub query: &'static [(&'static str, bool, &'static str)],
    /// Conditions that may be sent: a state that is known, one that is expected.
    pub tagged: Tagged,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tagged {
    No,
    IfNoneMatch,
    IfMatch,
}

const READ: Operation = Operation {
    id: "",
    tag: "Keys",
    summary: "",
    body: None,
    answer: "Object",
    query: &[],
    tagged: Tagged::IfNoneMatch,
};
const WRITE: Operation = Operation { tagged: Tagged::IfMatch, ..READ };
const CONFIG: Operation = Operation { tag: "Config", tagged: Tagged::No, ..READ };

/// What is said of a route.
pub(super) fn operation(route: AdminRoute) -> Operation {
    match route {
        AdminRoute::Catalogue
        | AdminRoute::Connections
        | AdminRoute::ConnectionPut
        | AdminRoute::ConnectionPatch
        | AdminRoute::ConnectionDelete => of_connections(route),
        AdminRoute::Credentials
        | AdminRoute::CredentialCreate
        | AdminRoute::Credential
        | AdminRoute::CredentialPatch
        | AdminRoute::CredentialDelete
        | AdminRoute::CredentialHealth => of_credentials(route),
        AdminRoute::Mcp => Operation {
            id: "callMcp",
            tag: "Agents",
            summary: "The Model Context Protocol over Streamable HTTP: one JSON-RPC message",
            body: Some("RpcMessage"),
            tagged: Tagged::No,
            ..READ
        },
        _ => of_keys(route),
    }
}

fn of_keys(route: AdminRoute) -> Operation {
    match route {
        AdminRoute::ConfigStatus => {
            Operation { id: "getConfigStatus", summary: "What runs, what is on disk, what went wrong last", ..CONFIG }
        }
        AdminRoute::ConfigReload => Operation {
            id: "reloadConfig",
            summary: "Read the file and every reference again, and wait for the outcome",
            answer: "Reload",
            ..CONFIG
        },
        AdminRoute::ConfigCheck => Operation {
            id: "checkConfig",
            summary: "Check a document as a config, comments and all, without resolving a reference",
            body: Some("Document"),
            answer: "Check",
            ..CONFIG
        },
        AdminRoute::Explain => Operation {
            id: "explainModel",
            summary: "Which keys could serve a model, in which order and with which shares, and which not and why",
            answer: "Explanation",
            query: &[
                ("model", true, "As a caller would write it: a name, provider/model or @route"),
                ("project", false, "Id of a project: only what it may use counts"),
            ],
            ..CONFIG
        },
        AdminRoute::OpenApi => Operation { id: "getOpenApi", summary: "This document", ..CONFIG },
        AdminRoute::AllKeys => Operation {
            id: "listAllKeys",
            summary: "All keys of all providers, in short",
            answer: "KeyEntries",
            ..READ
        },
        AdminRoute::Keys => Operation { id: "listProviderKeys", summary: "Keys of a provider", answer: "Keys", ..READ },
        AdminRoute::Key => Operation { id: "getProviderKey", summary: "A key", answer: "KeyView", ..READ },
        AdminRoute::KeyCreate => Operation {
            id: "createProviderKey",
            summary: "Create a key; its id is made where none is sent",
            body: Some("Key"),
            answer: "KeyView",
            ..WRITE
        },
        AdminRoute::KeyPut => Operation {
            id: "updateProviderKey",
            summary: "Replace a key; a secret that is left out, or sent as its mask, stays",
            body: Some("Key"),
            answer: "KeyView",
            ..WRITE
        },
        AdminRoute::KeyDelete => {
            Operation { id: "deleteProviderKey", summary: "Delete a key; answers with it", answer: "KeyView", ..WRITE }
        }
        AdminRoute::KeyRefresh => Operation {
            id: "refreshKeyModels",
            summary: "Ask the upstream for its models with this key",
            answer: "Probe",
            tagged: Tagged::No,
            ..READ
        },
        _ => of_providers(route),
    }
}

fn of_providers(route: AdminRoute) -> Operation {
    let read = Operation { tag: "Providers", answer: "ProviderView", ..READ };
    let write = Operation { tagged: Tagged::IfMatch, ..read };
    match route {
        AdminRoute::Provider => Operation { id: "getProvider", summary: "A provider without its keys", ..read },
        AdminRoute::ProviderCreate => Operation {
            id: "createProvider",
            summary: "Create a provider, with keys or without",
            body: Some("NewProvider"),
            tagged: Tagged::No,
            ..write
        },
        AdminRoute::ProviderPut => Operation {
            id: "putProvider",
            summary: "Create a provider, or replace its settings; its keys stay",
            body: Some("ProviderSettings"),
            ..write
        },
        AdminRoute::ProviderDelete => {
            Operation { id: "deleteProvider", summary: "Delete a provider with its keys", answer: "Named", ..write }
        }
        AdminRoute::ProviderRefresh => Operation {
            id: "refreshProviderModels",
            summary: "Ask the upstream for its models with each key",
            answer: "Probes",
            tagged: Tagged::No,
            ..read
        },
        _ => Operation { id: "listProviders", summary: "All providers by name", answer: "Providers", ..read },
    }
}

fn of_connections(route: AdminRoute) -> Operation {
    let label = &[("label", false, "Of the connection, where its provider has several")];
    let one = Operation { tag: "Connections", answer: "Connection", tagged: Tagged::No, ..READ };
    match route {
        AdminRoute::Catalogue => Operation {
            id: "listProviderCatalog",
            summary: "Providers that can be connected; open to all",
            answer: "Catalogue",
            ..one
        },
        AdminRoute::ConnectionPut => Operation {
            id: "putConnection",
            summary: "Connect a provider, or change its connection",
            body: Some("NewConnection"),
            ..one
        },
        AdminRoute::ConnectionPatch => Operation {
            id: "updateConnection",
            summary: "Change the members that are sent",
            body: Some("ConnectionChange"),
            query: label,
            ..one
        },
        AdminRoute::ConnectionDelete => Operation {
            id: "deleteConnection",
            summary: "Remove a connection; refused where a route would be left without a key",
            answer: "Ok",
            query: label,
            ..one
        },
        _ => Operation {
            id: "listConnections",
            summary: "All connections in the order in which they are tried",
            answer: "Connections",
            ..one
        },
    }
}

/// Of every list in pages.
const PAGE: &[(&str, bool, &str)] =
    &[("limit", false, "Items of a page: 50 unless set, 200 at most"), ("cursor", false, "The next_cursor of a page")];

fn of_credentials(route: AdminRoute) -> Operation {
    let one = Operation { tag: "Credentials", answer: "Credential", tagged: Tagged::No, ..READ };
    match route {
        AdminRoute::CredentialCreate => Operation {
            id: "createCredential",
            summary: "Add a credential of a vendor",
            body: Some("NewCredential"),
            ..one
        },
        AdminRoute::Credential => Operation { id: "getCredential", summary: "A credential and its health", ..one },
        AdminRoute::CredentialPatch => Operation {
            id: "updateCredential",
            summary: "Change members; a new api_key is verified before it takes the old one's place",
            body: Some("CredentialChange"),
            ..one
        },
        AdminRoute::CredentialDelete => Operation {
            id: "deleteCredential",
            summary: "Delete a credential; refused where a route would be left without one",
            answer: "Deleted",
            ..one
        },
        AdminRoute::CredentialHealth => Operation {
            id: "getCredentialHealth",
            summary: "Latency percentiles and success rate over rolling windows, from traffic",
            answer: "CredentialHealth",
            ..one
        },
        _ => Operation {
            id: "listCredentials",
            summary: "All credentials, in pages",
            answer: "Credentials",
            query: PAGE,
            ..one
        },
    }
}
