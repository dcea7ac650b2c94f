-- Two databases with an owner each: the service's catalog and Prefect's own. Run once, by PostgreSQL's superuser, with the
-- passwords in the environment (they are in no argument and no file of the server).
\set ON_ERROR_STOP on
\getenv ims_password IMS_DB_PASSWORD
\getenv prefect_password PREFECT_DB_PASSWORD
CREATE ROLE ims LOGIN PASSWORD :'ims_password';
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE DATABASE ims OWNER ims ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE prefect OWNER prefect ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT, TEMPORARY ON DATABASE ims, prefect FROM PUBLIC;
