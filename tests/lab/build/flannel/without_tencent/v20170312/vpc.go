// Package v20170312 lets flannel build without Tencent's cloud: what its backend for that cloud
// names is here, and every request is refused.
package v20170312

import "errors"

var errBuiltWithout = errors.New("this flanneld is built without Tencent's cloud")

type Client struct{}

func NewClientWithSecretId(_, _, _ string) (*Client, error) { return &Client{}, nil }

func (*Client) DescribeRouteTables(*Filtered) (*RouteTables, error) { return nil, errBuiltWithout }
func (*Client) CreateRoutes(*Routes) (*RouteTables, error)          { return nil, errBuiltWithout }
func (*Client) DeleteRoutes(*Routes) (*RouteTables, error)          { return nil, errBuiltWithout }

type Filter struct {
	Name   *string
	Values []*string
}

type Filtered struct{ Filters []*Filter }

type Route struct {
	DestinationCidrBlock, GatewayId, GatewayType, RouteType *string
	Enabled                                                 *bool
	RouteId                                                 *uint64
}

type Routes struct {
	RouteTableId *string
	Routes       []*Route
}

type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

type RouteTables struct {
	Response struct{ RouteTableSet []*RouteTable }
}

func NewDescribeRouteTablesRequest() *Filtered { return &Filtered{} }
func NewCreateRoutesRequest() *Routes          { return &Routes{} }
func NewDeleteRoutesRequest() *Routes          { return &Routes{} }
