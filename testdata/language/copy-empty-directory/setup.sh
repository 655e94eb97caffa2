mkdir -p d/inner e
