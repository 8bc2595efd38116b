"""Print the s3:// URI of the account's bucket (cluster/aws_account.yaml) in the region of a cluster config."""

from __future__ import annotations

import sys
from pathlib import Path

import boto3
import yaml


def address(config: str, account: str) -> str:
    """s3://bias-transfer-ACCOUNT-REGION. config: the text of a cluster config, which names the region."""
    return f"s3://bias-transfer-{account}-{yaml.safe_load(config)['provider']['region']}"


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text()
    region = yaml.safe_load(text)["provider"]["region"]
    print(address(text, boto3.client("sts", region_name=region).get_caller_identity()["Account"]))
