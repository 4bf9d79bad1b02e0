//! Files and scripts that the ready mappings bring along.

/// Listens on IPv6 as well where the pod has it; removed elsewhere.
pub(super) const IPV6_MARK: &str = "#ipv6# ";

pub(super) const NGINX_CONF: &str = r#"# Made by minisvc for this container alone.
worker_processes 1;
error_log /dev/stderr notice;
pid /var/lib/nginx/nginx.pid;

events {
    worker_connections 1024;
}

http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" '
                    '$status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';
    access_log /dev/stdout main;
    client_body_temp_path /var/lib/nginx/body;
    proxy_temp_path /var/lib/nginx/proxy;
    fastcgi_temp_path /var/lib/nginx/fastcgi;
    uwsgi_temp_path /var/lib/nginx/uwsgi;
    scgi_temp_path /var/lib/nginx/scgi;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"#;

pub(super) const NGINX_SITE: &str = r"server {
    listen 80;
#ipv6#     listen [::]:80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
    error_page 500 502 503 504 /50x.html;
    location = /50x.html {
        root /usr/share/nginx/html;
    }
}
";

pub(super) const NGINX_SITE_8080: &str = r"server {
    listen 8080;
#ipv6#     listen [::]:8080;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
";

pub(super) const NGINX_MIME: &str = "types {
    text/html html htm;
    text/css css;
    text/plain txt;
    text/xml xml;
    application/javascript js mjs;
    application/json json;
    application/wasm wasm;
    application/pdf pdf;
    application/zip zip;
    image/gif gif;
    image/jpeg jpeg jpg;
    image/png png;
    image/svg+xml svg svgz;
    image/webp webp;
    image/x-icon ico;
    font/woff woff;
    font/woff2 woff2;
    video/mp4 mp4;
    video/webm webm;
}
";

pub(super) const NGINX_INDEX: &str = "<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page is /usr/share/nginx/html/index.html of this container alone.</p>
</body>
</html>
";

pub(super) const NGINX_ERROR: &str = "<!DOCTYPE html>
<html>
<head><title>Error</title></head>
<body>
<h1>An error occurred.</h1>
<p>The log of the container says more.</p>
</body>
</html>
";

pub(super) const HTTPD_INDEX: &str = "<html><body><h1>It works!</h1></body></html>\n";

/// Makes the database on the first start, as the image does, with the image's variables.
pub(super) const POSTGRES: &str = r#"set -e
for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do [ -x "$bin/postgres" ] && PATH="$bin:$PATH"; done
export PGDATA="${PGDATA:-/var/lib/postgresql/data}"
as=""
mkdir -p "$PGDATA"
if [ "$(id -u)" = 0 ]; then
  # It refuses to run as root.
  user="$(id -un postgres 2>/dev/null || echo nobody)"
  chown -R "$user" "$PGDATA"
  chown "$user" "$(dirname "$PGDATA")"
  as="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups"
fi
chmod 0700 "$PGDATA"
if ! [ -s "$PGDATA/PG_VERSION" ]; then
  if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
    echo "the database has no password: set POSTGRES_PASSWORD (or POSTGRES_HOST_AUTH_METHOD=trust)" >&2
    exit 1
  fi
  words="$(mktemp)"
  chmod 0644 "$words"
  printf '%s\n' "$POSTGRES_PASSWORD" > "$words"
  if [ -n "$POSTGRES_PASSWORD" ]; then pw="--pwfile=$words"; else pw=""; fi
  $as initdb -D "$PGDATA" -U "${POSTGRES_USER:-postgres}" $pw --auth-local=trust $POSTGRES_INITDB_ARGS
  rm -f "$words"
  echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >> "$PGDATA/pg_hba.conf"
  database="${POSTGRES_DB:-${POSTGRES_USER:-postgres}}"
  if [ "$database" != postgres ]; then
    echo "CREATE DATABASE \"$database\"" | $as postgres --single -D "$PGDATA" postgres > /dev/null
  fi
fi
[ "$1" = postgres ] && shift
exec $as postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
"#;

/// The same for MariaDB, which also answers to the name of MySQL.
pub(super) const MYSQL: &str = r#"set -e
data=/var/lib/mysql
server="$(command -v mariadbd || command -v mysqld)"
install="$(command -v mariadb-install-db || command -v mysql_install_db)"
user="$(id -un)"
if [ "$user" = root ]; then
  # It refuses to run as root.
  user="$(id -un mysql 2>/dev/null || echo nobody)"
  chown -R "$user" "$data"
fi
root="${MARIADB_ROOT_PASSWORD:-$MYSQL_ROOT_PASSWORD}"
password="${MARIADB_PASSWORD:-$MYSQL_PASSWORD}"
login="${MARIADB_USER:-$MYSQL_USER}"
database="${MARIADB_DATABASE:-$MYSQL_DATABASE}"
quoted() { printf '%s' "$1" | sed "s/'/''/g"; }
init=""
if ! [ -d "$data/mysql" ]; then
  if [ -z "$root" ] && [ -z "$MYSQL_ALLOW_EMPTY_PASSWORD$MARIADB_ALLOW_EMPTY_ROOT_PASSWORD" ]; then
    echo "the database has no password: set MYSQL_ROOT_PASSWORD (or MYSQL_ALLOW_EMPTY_PASSWORD=1)" >&2
    exit 1
  fi
  "$install" --no-defaults --user="$user" --datadir="$data" --auth-root-authentication-method=normal > /dev/null
  init="$data/minisvc-init.sql"
  {
    echo "CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY '$(quoted "$root")';"
    echo "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;"
    echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$(quoted "$root")';"
    [ -z "$database" ] || echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"
    [ -z "$login" ] || echo "CREATE USER IF NOT EXISTS '$(quoted "$login")'@'%' IDENTIFIED BY '$(quoted "$password")';"
    [ -z "$login" ] || [ -z "$database" ] || echo "GRANT ALL ON \`$database\`.* TO '$(quoted "$login")'@'%';"
  } > "$init"
  chmod 0644 "$init"
fi
case "$1" in mysqld | mariadbd) shift ;; esac
exec "$server" --no-defaults --user="$user" --datadir="$data" --bind-address=0.0.0.0 --socket="$data/mysql.sock" \
  --pid-file="$data/mysql.pid" ${init:+--init-file="$init"} "$@"
"#;
