#!/bin/sh
# Makes the three buckets, the service's own S3 user and its policy. Runs in the image minio/mc; a second run changes nothing but
# the user's secret key, which it sets to the one in the environment. MC_HOST_store holds MinIO's address and its root user.
set -eu

for bucket in ims-images ims-inbox ims-exports; do
    mc mb --ignore-existing "store/$bucket"
done
mc admin policy create store ims-buckets /stack/s3-policy.json
printf '%s\n%s\n' "$IMS_S3_ACCESS_KEY" "$IMS_S3_SECRET_KEY" | mc admin user add store
mc admin user info store "$IMS_S3_ACCESS_KEY" | grep -q ims-buckets ||
    mc admin policy attach store ims-buckets --user "$IMS_S3_ACCESS_KEY"
