#!/bin/sh
# Sizes of images, unpacked and compressed as a registry keeps them. usage: image_sizes.sh TAG SERVICE...
tag=$1
shift
echo "image                     unpacked MB  compressed MB"
for name in "$@"; do
  image=geofix/$name:$tag
  bytes=$(docker image inspect --format '{{.Size}}' "$image") || exit 1
  packed=$(docker save "$image" | gzip -6 | wc -c)
  printf '%-25s %11d %14d\n' "$image" $((bytes / 1000000)) $((packed / 1000000))
done
