"""Signs recorded requests with botocore, by the clock of each, and prints what it would have sent.

Standard input: a JSON list of {method, url, headers, body, access_key, secret_key, token, region}.
Standard output: a JSON list of values of `authorization`.
"""

import json
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def authorization(seen):
    credentials = Credentials(seen["access_key"], seen["secret_key"], seen["token"])
    headers = {name: value for name, value in seen["headers"].items() if name != "authorization"}
    request = AWSRequest(seen["method"], seen["url"], headers=headers, data=seen["body"].encode())
    auth = SigV4Auth(credentials, "bedrock", seen["region"])
    # What add_auth does, but for looking at the clock.
    request.context["timestamp"] = headers["x-amz-date"]
    auth._modify_request_before_signing(request)
    to_sign = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(request, auth.signature(to_sign, request))
    return request.headers["Authorization"]


json.dump([authorization(seen) for seen in json.load(sys.stdin)], sys.stdout)
