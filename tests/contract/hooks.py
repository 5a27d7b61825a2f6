"""Puts the config back after a request that has deleted what the others are about.

Without it the first DELETE that succeeds would leave nothing but 404 to look at.
"""

import os
import shutil
from urllib.parse import urlsplit

import requests
import schemathesis

CONFIG = os.environ["KEYWAY_CONFIG_PATH"]
TOKEN = os.environ["KEYWAY_MANAGEMENT_TOKEN"]


@schemathesis.hook
def after_call(context, case, response):
    if case.method != "DELETE" or response.status_code != 200:
        return
    shutil.copyfile(CONFIG + ".kept", CONFIG + ".next")
    os.rename(CONFIG + ".next", CONFIG)
    parts = urlsplit(response.request.url)
    base = f"{parts.scheme}://{parts.netloc}"
    headers = {"authorization": f"Bearer {TOKEN}"}
    outcome = requests.post(f"{base}/api/config/reload", headers=headers, timeout=20).json()
    assert outcome["result"] in ("applied", "unchanged"), outcome
