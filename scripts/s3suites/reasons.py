"""Why tests of others fail here, by class: the first row whose pattern is in the test's name or in what it says."""

from __future__ import annotations

import re

#: (pattern, class). A class that begins with `Not here` is answered `NotImplemented`; the others are the tests' own.
REASONS: tuple[tuple[str, str], ...] = (
    (r"test_s3_select", "Not here: S3 Select"),
    (r"_lock|legal_hold|ObjectLock|object-lock|Retention|retention", "Not here: object lock"),
    (r"[Rr]eplication", "Not here: replication"),
    (r"[Ii]nventory", "Not here: inventories"),
    (r"[Aa]ccelerat", "Not here: transfer acceleration"),
    (
        r"with_transition|multiple_transitions|glacier|_nvt|lifecycle_multi|[Tt]ransition|[Rr]estore|GLACIER|DEEP_ARCHIVE",
        "Not here: archives and transitions",
    ),
    (
        r"server-side-encryption|[Ee]ncryption|_kms|ssec|sse_|ssm_key|object_headers",
        "Not here: encryption by the server",
    ),
    (r"[Pp]olicy|policies", "Not here: bucket policies"),
    (r"BucketLogging|test_s3_logging|_logging", "Not here: access logs (and names with `_`, which no bucket can have)"),
    (r"public_access_block|PublicAccessBlock", "Not here: public access blocks"),
    (r"ownership|Ownership", "Not here: owners of objects other than the bucket's"),
    (r"bucket-namespace|regional_namespace", "Not here: namespaces of accounts in names of buckets"),
    (r"ACL|Acl|[-_]acl|grant|public_bucket|anonymous|without_auth|private_bucket", "Not here: ACLs but the owner's"),
    (r"_to_presigned_url|presigned_url_on_multipart", "An address for one method is used with another, or with a form"),
    (r"presigned_post|post_to_bucket|post_with_metadata", "Not here: forms by POST"),
    (r"RequestTimeTooSkewed", "The test asks at a made-up time, which only its own server believes"),
    (r"InvalidAccessKeyId|test_s3_auth|access_denied|AssumeRole", "The test makes its own keys by AWS's IAM"),
    (r"InvalidBucketName", "The test's bucket has a name that S3 does not allow"),
    (r"assert 1000 == 5|custom_limit|more_than_1000|MissingBucket|moto\.s3", "The test looks into its own server"),
    (r"requestid|x-amz-sdk-checksum", "The test wants headers that its own server adds"),
    (
        r"list_multiparts|out_of_order|wrong_partnumber|composite_suffix",
        "S3 refuses what the test does (an upload by another key, parts out of order or without their checksum)",
    ),
    (
        r"website_configuration_xml|truncated_response|using_multipart",
        "An element that S3 gives, too: an empty prefix, the status of a redirect, a checksum of parts",
    ),
    (
        r"on_earliest_version|on_both_version|deleted_version|returns_metadata|bucket_duplicate|not_versioned_bucket",
        "The error says more than the test expects, or by another of S3's codes",
    ),
    (
        r"location_constraint|outside_useast1|force_us_east_1|non_standard_region|region",
        "One place answers for every region here; where a bucket is to be is kept as it was said",
    ),
    (r"'0-3' is no range", "S3 wants `bytes=` before a range of a copy"),
    (
        r"does nothing|lifecycle_delete|empty_configuration|lifecycle_with_filters|eodm",
        "S3 refuses rules that do nothing, and so does this",
    ),
    (r"valid queue name|notification_errors|put_bucket_notification", "Targets of notifications are named as here"),
    (r"' == '|== \"|\" == '", "Other words for the same error"),
    (r"ChecksumType|FULL_OBJECT|COMPOSITE|attributes", "S3 tells the type of a checksum since 2024, and so does this"),
    (
        r"list_buckets|get_all_buckets",
        "The test wants buckets in the order of their making; S3 sorts them by name",
    ),
)


def reason_of(name: str, said: str) -> str:
    """The class of a failure; "not looked into" where no row fits."""
    return next((kind for pattern, kind in REASONS if re.search(pattern, f"{name}: {said}")), "not looked into")
