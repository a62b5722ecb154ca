# Types of the network's options.
{ lib }:
rec {
  # As the kernel takes it (IFNAMSIZ): at most 15 characters, no white space, no slash; here also none that nft would
  # have to be told of.
  interface = lib.types.strMatching "[A-Za-z][A-Za-z0-9._-]{0,14}" // {
    description = "name of a network interface";
  };
  # One interface, or with `*` at the end all whose names begin so.
  interfaces = lib.types.strMatching "[A-Za-z][A-Za-z0-9._-]{0,13}[*]?|[A-Za-z][A-Za-z0-9._-]{0,14}" // {
    description = "name of a network interface, or the beginning of one with `*`";
  };
  mac = lib.types.strMatching "([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}" // {
    description = "MAC address, six pairs of hexadecimal digits with colons";
  };

  # The vocabulary of the answer file.
  addressing = lib.types.submodule {
    options = {
      dhcp = lib.mkOption {
        type = lib.types.enum [
          "yes"
          "no"
          "ipv4"
          "ipv6"
        ];
        default = "yes";
        example = "no";
        description = "DHCP for both families, none, or one.";
      };
      acceptRA = lib.mkOption {
        type = lib.types.bool;
        default = true;
        example = false;
        description = "Whether IPv6 router advertisements give it addresses and routes.";
      };
      addresses = lib.mkOption {
        type = lib.types.listOf (lib.types.strMatching "[0-9A-Fa-f.:]+/[0-9]{1,3}");
        default = [ ];
        example = [
          "192.0.2.10/24"
          "2001:db8::10/64"
        ];
        description = "Static addresses with prefix length, IPv4 and IPv6.";
      };
      gateways = lib.mkOption {
        type = lib.types.listOf lib.types.str;
        default = [ ];
        example = [
          "192.0.2.1"
          "fe80::1"
        ];
        description = "Default gateways, at most one a family.";
      };
      dns = lib.mkOption {
        type = lib.types.listOf lib.types.str;
        default = [ ];
        example = [ "192.0.2.53" ];
        description = "Name servers of this interface.";
      };
      domains = lib.mkOption {
        type = lib.types.listOf lib.types.str;
        default = [ ];
        example = [ "example.org" ];
        description = "Search domains.";
      };
      routes = lib.mkOption {
        type = lib.types.attrsOf lib.types.str;
        default = { };
        example."10.0.0.0/8" = "192.0.2.2";
        description = "Static routes: network, and the gateway that it lies behind.";
      };
      mtu = lib.mkOption {
        type = lib.types.nullOr (lib.types.ints.between 576 9216);
        default = null;
        example = 9000;
        description = "MTU in bytes; `null` leaves it to the kernel.";
      };
    };
  };

  addressed = lib.mkOption {
    type = lib.types.nullOr addressing;
    default = null;
    example = {
      dhcp = "no";
      addresses = [ "192.0.2.10/24" ];
      gateways = [ "192.0.2.1" ];
    };
    description = ''
      Its addresses, `{ }` for DHCP; `null` for none, as it has to be for a member of a bond or bridge. What is not named
      here can be set in {option}`systemd.network.networks."40-NAME"`.
    '';
  };
}
