#!/bin/bash
# Answers every connection to port 8000 with the page.
exec ncat --listen --keep-open --sh-exec 'cat hello.http' 8000
